"""The stage on what outgrows memory, in small: streamed positives, managed slots; and sparse features of items."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ITEMS

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.errors import UserError
from recdistill.retrieval.config import QuestionsConfig
from recdistill.teachers import TeachersConfig, teach
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig, SlotsConfig, StreamConfig

ID = IdTeacherConfig(dim=16, batch=16, steps=40, validate_every=20)
SEQUENCE = SequenceTeacherConfig(dim=16, batch=16, length=10, steps=40, validate_every=20)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue in which each circle's items carry the circle's name, and one tag of their own."""
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    ids = [*ITEMS, "cold", "x"]
    tags = [[item[0], f"only {item}"] for item in ITEMS] + [[], []]
    write_table(pa.table({"item_id": ids, "tags_side": pa.array(tags, pa.list_(pa.string()))}), path)
    return path


def run(config: TeachersConfig, fold: Fold, items: Path, out: Path) -> dict[str, Any]:
    logged: dict[str, list[str]] = {}

    def log(curve: str) -> Any:
        return lambda metrics, step: logged.setdefault(curve, []).extend(metrics)

    teach(config, QuestionsConfig(min_history=1), fold=fold, items=items, out=out, seed=0, key="k", log=log)
    return {"logged": logged, **json.loads((out / "teachers.json").read_text())["teachers"]}


def test_streamed_in_one_window_equals_in_memory_bit_for_bit(fold: Fold, items: Path, tmp_path: Path) -> None:
    streams = {"memory": StreamConfig(), "disk": StreamConfig(above=0, part=50, window_parts=100)}
    for name, stream in streams.items():
        told = run(TeachersConfig(id=ID, sequence=SEQUENCE, stream=stream), fold, items, tmp_path / name)
        assert ("loader_share" in told["logged"]["id_teacher"]) == (name == "disk")
    for path in sorted((tmp_path / "memory").rglob("*.parquet")):
        of = "user_id" if path.parent.name == "users" else "item_id"
        other = tmp_path / "disk" / path.relative_to(tmp_path / "memory")
        one, two = (EmbeddingTable.read(each, id_column=of) for each in (path, other))  # type: ignore[arg-type]
        assert one.ids.equals(two.ids)
        if of == "item_id":
            assert np.array_equal(one.vectors, two.vectors), path.name
        else:  # users are taken part by part, and how many stand in a product changes its rounding
            assert np.abs(one.vectors - two.vectors).max() < 1e-5
        assert np.array_equal(one.support, two.support)
    assert not list((tmp_path / "disk").rglob("part-*"))  # what was written for the training alone is gone


def test_streamed_window_by_window_learns_as_well(fold: Fold, items: Path, tmp_path: Path, purity: Any) -> None:
    stream = StreamConfig(above=0, part=40, window_parts=2)
    run(TeachersConfig(id=ID, sequence=None, stream=stream), fold, items, tmp_path)
    table = EmbeddingTable.read(tmp_path / "final" / "id_teacher.parquet")
    assert purity(table.vectors, table.ids) > 0.95


def test_managed_slots_export_only_items_that_hold_one(fold: Fold, items: Path, tmp_path: Path, purity: Any) -> None:
    slots = SlotsConfig(count=31, admit_after=2, every=2)
    config = ID.model_copy(update={"slots": slots, "steps": 80, "negatives": 64})
    told = run(TeachersConfig(id=config, sequence=None), fold, items, tmp_path)["id_teacher"]
    for which in ("selection", "final"):
        table = EmbeddingTable.read(tmp_path / which / "id_teacher.parquet")
        account = told[which]["slots"]
        assert 20 <= len(table.ids) == account["trained"] <= 30  # the last of 31 rows is nobody's
        assert table.ids.is_monotonic_increasing and set(table.ids) <= set(ITEMS)
        assert account["distinct"] >= 39 and account["evicted"] > 0
        assert all(item in ITEMS for item, _ in account["evicted_most_trained"])
        assert purity(table.vectors, table.ids) > 0.8


def test_slots_that_nobody_holds_in_the_end_are_the_users_mistake(fold: Fold, items: Path, tmp_path: Path) -> None:
    config = ID.model_copy(update={"slots": SlotsConfig(count=31, admit_after=1_000_000)})
    with pytest.raises(UserError, match=r"no item holds one of the managed slots after \d+ steps\n.*admit_after"):
        run(TeachersConfig(id=config, sequence=None), fold, items, tmp_path)


def test_users_of_one_positive_have_no_row_to_be_trusted(fold: Fold, items: Path, tmp_path: Path) -> None:
    """Nobody with a single positive is ever drawn: the user table's row is still its random beginning."""
    train = pq.read_table(fold.root / "train.parquet").to_pandas()
    once = train.groupby("user_id").cumcount().eq(0) & train.user_id.isin(["u000", "u001"])
    shutil.copytree(fold.root, tmp_path / "fold")
    write_table(
        pa.Table.from_pandas(
            train[once | ~train.user_id.isin(["u000", "u001"])],
            schema=pq.read_schema(fold.root / "train.parquet").remove_metadata(),
            preserve_index=False,
        ),
        tmp_path / "fold" / "train.parquet",
    )
    config = ID.model_copy(update={"user_form": "table"})
    run(TeachersConfig(id=config, sequence=None), Fold(tmp_path / "fold"), items, tmp_path)
    users = EmbeddingTable.read(tmp_path / "selection" / "users" / "id_teacher.parquet", id_column="user_id")
    assert "u000" not in users.ids and "u002" in users.ids and users.support is not None and users.support.min() >= 2


def test_features_place_items_by_what_they_share(fold: Fold, items: Path, tmp_path: Path) -> None:
    """After few steps an item's own row says little yet; its circle's tag, met with every item of it, says much."""

    def gap(folder: Path, **settings: Any) -> float:
        config = ID.model_copy(update={"steps": 4, "validate_every": 2, "learning_rate": 0.02, **settings})
        run(TeachersConfig(id=config, sequence=None), fold, items, folder)
        table = EmbeddingTable.read(folder / "selection" / "id_teacher.parquet")
        side = pd.Index(table.ids).str[0]
        means = [table.vectors[side == each].mean(axis=0) for each in "ab"]
        return float(np.linalg.norm(means[0] - means[1]))

    assert gap(tmp_path / "with", features=("side",)) > 1.5 * gap(tmp_path / "without")
