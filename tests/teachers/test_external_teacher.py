"""External tables: what is kept, what is counted, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.errors import UserError
from recdistill.teachers.config import ExternalTeacherConfig, TeachersConfig
from recdistill.teachers.external import read_external

CATALOGUE = pd.Index(["a", "b", "c", "d"])


def read(path: Path, *, cold: tuple[str, ...] = (), catalogue: pd.Index = CATALOGUE) -> EmbeddingTable:
    return read_external(
        path,
        name="production",
        geometry="dot",
        catalogue=catalogue,
        cold=pd.Index(cold, dtype=object),
        confidence_prior=5,
    )


def test_unknown_and_cold_items_are_counted_and_dropped(tmp_path: Path) -> None:
    ids = pd.Index(["z", "c", "a", "b"])
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    EmbeddingTable(ids, vectors, np.array([9, 8, 7, 6]), None).write(tmp_path / "t.parquet")
    external = read(tmp_path / "t.parquet", cold=("b", "d"))
    assert external.ids.tolist() == ["c", "a"]
    assert external.vectors.tolist() == [[2, 3], [4, 5]]
    assert external.support is not None and external.support.tolist() == [8, 7]
    assert (external.metadata["unknown_ids"], external.metadata["withheld_cold_ids"]) == (1, 1)
    assert external.metadata["geometry"] == "dot"


def test_support_without_confidence_gives_that_of_the_trained_teachers(tmp_path: Path) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    EmbeddingTable(pd.Index(["a", "b", "c"]), vectors, np.array([5, 0, 15]), None).write(tmp_path / "t.parquet")
    confidence = read(tmp_path / "t.parquet", cold=("b",)).confidence
    assert confidence is not None and confidence.tolist() == [0.5, 0.75]
    own = np.array([0.1, 0.2, 0.3], np.float32)
    EmbeddingTable(pd.Index(["a", "b", "c"]), vectors, np.array([5, 0, 15]), own).write(tmp_path / "t.parquet")
    kept = read(tmp_path / "t.parquet").confidence
    assert kept is not None and kept.tolist() == own.tolist()
    EmbeddingTable(pd.Index(["a", "b", "c"]), vectors).write(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").confidence is None


def test_a_confidence_that_is_null_is_refused(tmp_path: Path) -> None:
    columns = {"item_id": ["a", "b"], "embedding": [[1.0], [2.0]], "confidence": [1.0, None]}
    write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: column 'confidence' .*1 of 2 rows.*'b'"):
        read(tmp_path / "t.parquet")


def test_nan_is_refused_with_the_items_named(tmp_path: Path) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    vectors[1, 0] = np.nan
    EmbeddingTable(pd.Index(["a", "b", "c"]), vectors).write(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: column 'embedding' has NaN .*'b'"):
        read(tmp_path / "t.parquet")


def test_ids_of_another_type_are_refused_with_both_types_named(tmp_path: Path) -> None:
    EmbeddingTable(pd.Index([1, 2]), np.ones((2, 2), dtype=np.float32)).write(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="no id in common") as caught:
        read(tmp_path / "t.parquet")
    assert "int64" in caught.value.message and "'a'" in caught.value.message


def test_a_table_of_held_out_items_only_is_refused(tmp_path: Path) -> None:
    EmbeddingTable(pd.Index(["a"]), np.ones((1, 2), dtype=np.float32)).write(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="only items that this fold holds out"):
        read(tmp_path / "t.parquet", cold=("a",))


def test_missing_file_and_missing_column_are_the_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the table of the external teacher '\w+' is not there"):
        read(tmp_path / "absent.parquet")
    write_table(pa.table({"item_id": ["a"], "vector": [[1.0]]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="column 'embedding' is missing"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["id_teacher", "sequence_teacher", "Upper", "../elsewhere"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        ExternalTeacherConfig(name=name, path=tmp_path)


def test_names_must_differ(tmp_path: Path) -> None:
    twice = [ExternalTeacherConfig(name="other", path=tmp_path)] * 2
    with pytest.raises(ValidationError, match="share a name"):
        TeachersConfig(external=twice)
