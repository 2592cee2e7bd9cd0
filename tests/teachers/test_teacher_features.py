"""Tag fields as the ID teacher's sparse features."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.teachers.config import IdTeacherConfig
from recdistill.teachers.features import SparseFeature, sparse_features

TAGS = pa.list_(pa.string())


def write_items(path: Path, ids: list[str] | list[int], **fields: list[list[str]]) -> Path:
    columns: dict[str, pa.Array] = {"item_id": pa.array(ids), "text_title": pa.array(["x"] * len(ids))}
    columns |= {f"tags_{name}": pa.array(lists, TAGS) for name, lists in fields.items()}
    write_table(pa.table(columns), path)
    return path


def plain(feature: SparseFeature) -> list[list[int]]:
    offsets = feature.offsets.tolist()
    return [feature.values[start:stop].tolist() for start, stop in pairwise(offsets)]


@pytest.mark.parametrize("ids", [["a", "b", "c", "d"], [7, 5, 3, 1]])
def test_by_hand(tmp_path: Path, ids: list[str] | list[int]) -> None:
    path = write_items(
        tmp_path / "items.parquet",
        ids,
        genre=[["war", "comedy", "war"], [], ["drama", "comedy"], ["war", "drama", "comedy"]],
        author=[["x"], ["x"], [], ["y"]],
    )
    vocabulary = pd.Index([ids[3], ids[0], ids[1], ids[2]])
    genre, author = sparse_features(path, fields=["genre", "author"], item_ids=vocabulary, min_items=2)
    # comedy 0 (three items), drama 1 (two), war 2 (two, though it stands there three times)
    assert (genre.name, genre.rows) == ("genre", 3)
    assert plain(genre) == [[0, 1, 2], [0, 2], [], [0, 1]]
    assert str(genre.values.dtype) == str(genre.offsets.dtype) == "torch.int64"
    assert (author.rows, plain(author)) == (1, [[], [0], [0], []])  # y has one item
    (three,) = sparse_features(path, fields=["genre"], item_ids=vocabulary, min_items=3)
    assert (three.rows, plain(three)) == (1, [[0], [0], [], [0]])


def test_items_outside_the_vocabulary_do_not_count(tmp_path: Path) -> None:
    path = write_items(tmp_path / "items.parquet", ["a", "b", "c"], genre=[["war", "drama"], ["war"], ["drama"]])
    (genre,) = sparse_features(path, fields=["genre"], item_ids=pd.Index(["b", "a"]), min_items=2)
    assert (genre.rows, plain(genre)) == (1, [[0], [0]])


def test_the_tables_order_is_no_matter(tmp_path: Path) -> None:
    ids, lists = ["a", "b", "c"], [["z", "y"], ["x", "z"], ["y", "x"]]
    vocabulary = pd.Index(ids)
    for order, tags in ((ids, lists), (ids[::-1], [reversed(tags) for tags in lists[::-1]])):
        path = write_items(tmp_path / "items.parquet", order, genre=[list(of) for of in tags])
        (genre,) = sparse_features(path, fields=["genre"], item_ids=vocabulary, min_items=1)
        assert plain(genre) == [[1, 2], [0, 2], [0, 1]]


def test_an_unknown_field_is_refused_with_the_nearest_named(tmp_path: Path) -> None:
    path = write_items(tmp_path / "items.parquet", ["a"], genres=[["war"]], actors=[["x"]])
    with pytest.raises(UserError, match="no tag field 'genre'") as caught:
        sparse_features(path, fields=["genre"], item_ids=pd.Index(["a"]), min_items=1)
    assert caught.value.remedy is not None
    assert "did you mean 'genres'?" in caught.value.remedy and "genres, actors" in caught.value.remedy
    with pytest.raises(UserError, match="no tag field 'title'"):  # text is no tag
        sparse_features(path, fields=["title"], item_ids=pd.Index(["a"]), min_items=1)


@pytest.mark.parametrize("kind", [TAGS, pa.list_(pa.null())])
def test_a_field_without_tags_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"item_id": ["a", "b"], "tags_genre": pa.array([[], []], kind)})
    write_table(table, tmp_path / "items.parquet")
    with pytest.raises(UserError, match="no tag of field 'genre' is on 2 items") as caught:
        sparse_features(tmp_path / "items.parquet", fields=["genre"], item_ids=pd.Index(["a", "b"]), min_items=2)
    assert "feature_min_items" in (caught.value.remedy or "")


def test_a_vocabulary_that_the_table_lacks_is_refused(tmp_path: Path) -> None:
    path = write_items(tmp_path / "items.parquet", ["a"], genre=[["war"]])
    with pytest.raises(UserError, match=r"1 items of the vocabulary are missing, e.g. \['b'\]"):
        sparse_features(path, fields=["genre"], item_ids=pd.Index(["a", "b"]), min_items=1)
    with pytest.raises(UserError, match="no such table"):
        sparse_features(tmp_path / "none.parquet", fields=["genre"], item_ids=pd.Index(["a"]), min_items=1)
    assert sparse_features(tmp_path / "none.parquet", fields=[], item_ids=pd.Index(["a"]), min_items=1) == ()


def test_fields_must_differ() -> None:
    with pytest.raises(ValidationError, match="a field twice"):
        IdTeacherConfig(features=("genre", "genre"))
