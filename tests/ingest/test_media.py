"""Pictures and sounds find their items; what is missing is counted; nothing is decoded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_helpers import ITEMS, LOG, generic, run, violations, write
from pydantic import ValidationError

from recdistill.contracts.validate import violations_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, "log.csv", LOG)
    head, *rows = ITEMS.splitlines()
    names = ["cover,poster", "k1,a.jpg|b.jpg", "k2,gone.jpg", ",../secret.jpg"]
    write(folder, "items.csv", "\n".join(f"{row},{more}" for row, more in zip([head, *rows], names, strict=True)))
    return folder


def report(out: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((out / "validation.json").read_text())
    return whole


def pack(
    path: Path, keys: list[Any], data: list[bytes | None], key: str = "id", kind: pa.DataType | None = None
) -> None:
    pq.write_table(pa.table({key: keys, "jpeg": pa.array(data, kind or pa.binary())}), path)


def test_bytes_from_several_parquet_files(root: Path, tmp_path: Path) -> None:
    pack(root / "a.parquet", [1, 9, 1, 2], [b"one", b"nine", b"two", None])
    pack(root / "b.parquet", ["1", "3"], [b"three", b"not a picture at all"], kind=pa.large_binary())
    config = generic(root, images={"paths": ["a.parquet", "b.parquet"], "key": "id", "bytes": "jpeg"})
    tables = run(config, tmp_path / "out")
    media = {row["media_id"]: row["bytes"] for row in tables["media"]}
    pictures = {row["item_id"]: [media[name] for name in row["images"]] for row in tables["items"]}
    assert pictures == {1: [b"one", b"two", b"three"], 2: [], 3: [b"not a picture at all"]}
    assert all(row["path"] is None for row in tables["media"])
    assert report(tmp_path / "out")["read"]["images"] == {
        "items_with": 2, "media": 4, "rows_without_item": 1, "rows_without_bytes": 1,
    }  # fmt: skip
    assert violations_of(tmp_path / "out" / "media.parquet", "media") == []


def test_a_key_that_is_not_the_id_may_be_shared(root: Path, tmp_path: Path) -> None:
    text = (root / "items.csv").read_text().replace("k2,gone.jpg", "k1,gone.jpg")
    write(root, "items.csv", text)
    pack(root / "a.parquet", ["k1"], [b"x"], key="cover")
    config = generic(root, images={"path": "a.parquet", "key": "cover", "bytes": "jpeg", "item_key": "cover"})
    tables = run(config, tmp_path / "out")
    assert [row["images"] for row in tables["items"]] == [["images:k1:0"], ["images:k1:0"], []]
    assert len(tables["media"]) == 1


def test_batches_do_not_matter(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(root / "a.parquet", [1, 2, 3, 1, 7, 1, 2], [bytes([n]) for n in range(7)])
    config = generic(root, images={"path": "a.parquet", "key": "id", "bytes": "jpeg"})
    one = run(config, tmp_path / "one")
    monkeypatch.setattr("recdistill.ingest.media._BATCH", 2)
    assert run(config, tmp_path / "two") == one
    assert one["items"][0]["images"] == ["images:1:0", "images:1:1", "images:1:2"]
    assert [row["bytes"] for row in one["media"]] == [bytes([n]) for n in (0, 1, 2, 3, 5, 6)]


def test_a_folder_of_files_named_by_item(root: Path, tmp_path: Path) -> None:
    for name in ("1.jpg", "1_2.png", "2/b.jpg", "2/a.jpeg", "2/notes.txt", "readme.txt", "77.jpg", "3.wav"):
        write(root / "pictures", name, b"x")
    tables = run(generic(root, images={"folder": "pictures"}, audio={"folder": "pictures"}), tmp_path / "out")
    paths = {row["media_id"]: row["path"] for row in tables["media"]}
    found = {row["item_id"]: [Path(paths[m]).name for m in row["images"]] for row in tables["items"]}
    assert found == {1: ["1.jpg", "1_2.png"], 2: ["a.jpeg", "b.jpg"], 3: []}
    assert [[Path(paths[m]).name for m in row["audio"]] for row in tables["items"]] == [[], [], ["3.wav"]]
    assert all(Path(path).is_absolute() for path in paths.values())
    assert report(tmp_path / "out")["read"]["images"] == {"items_with": 2, "media": 4, "files_without_item": 1}


def test_files_named_by_a_column(root: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write(root / "pictures", name, b"x")
    write(root, "secret.jpg", b"x")
    config = generic(root, images={"folder": "pictures", "item_column": "poster", "separator": "|"})
    tables = run(config, tmp_path / "out")
    assert [row["images"] for row in tables["items"]] == [["images:a.jpg", "images:b.jpg"], [], []]
    assert report(tmp_path / "out")["read"]["images"]["missing_files"] == 2  # one is gone, one lies outside the folder
    assert any("2 missing files" in line for line in report(tmp_path / "out")["warnings"])


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        ({"folder": "nowhere"}, "no such folder"),
        ({"folder": "empty"}, "no file's name is an item's"),
        ({"folder": "empty", "item_column": "cover"}, "none of the files named"),
        ({"path": "gone.parquet", "key": "id", "bytes": "jpeg"}, "no such file"),
        ({"path": "a.parquet", "key": "id", "bytes": "png"}, "missing column"),
        ({"path": "a.parquet", "key": "id", "bytes": "jpeg", "item_key": "cover"}, "no row belongs to an item"),
        ({"path": "a.parquet", "key": "id", "bytes": "id"}, "wrong type: int64"),
        ({"path": "items.csv", "key": "id", "bytes": "title"}, "not a .parquet file"),
        ({"path": "a.parquet", "key": "id", "bytes": "jpeg", "item_key": "covers"}, "missing column"),
    ],
)
def test_what_cannot_be_meant(root: Path, tmp_path: Path, images: dict[str, Any], rule: str) -> None:
    (root / "empty").mkdir()
    pack(root / "a.parquet", [1], [b"x"])
    (found,) = violations(generic(root, images=images), tmp_path / "out")
    assert found.rule.startswith(rule) and found.remedy


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_structs_of_bytes_and_path(root: Path, tmp_path: Path, kind: pa.DataType) -> None:
    struct = pa.struct([("bytes", kind), ("path", pa.string())])
    values = [{"bytes": b"one", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None]
    pq.write_table(pa.table({"id": [1, 2, 3], "image": pa.array(values, struct)}), root / "a.parquet")
    config = generic(root, images={"path": "a.parquet", "key": "id", "bytes": "image"})
    tables = run(config, tmp_path / "out")
    assert [(row["bytes"], row["path"]) for row in tables["media"]] == [(b"one", None)]
    assert [len(row["images"]) for row in tables["items"]] == [1, 0, 0]
    assert report(tmp_path / "out")["read"]["images"]["rows_without_bytes"] == 2


def test_structs_without_bytes_and_keys_without_text(root: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "image": pa.array([{"path": "a.jpg"}])}), root / "a.parquet")
    pq.write_table(pa.table({"id": pa.array([[1]]), "image": pa.array([b"x"])}), root / "b.parquet")
    for name, rule in (("a", "wrong type: struct<path: string>"), ("b", "wrong type: list<element: int64>")):
        images = {"path": f"{name}.parquet", "key": "id", "bytes": "image"}
        found = violations(generic(root, images=images), tmp_path / name)
        assert any(v.rule.startswith(rule) for v in found)


def test_packed_parquet_with_pictures(root: Path, tmp_path: Path) -> None:
    pack(root / "a.parquet", [1, 3], [b"one", b"three"])
    (root / "a.parquet.gz").write_bytes(gzip.compress((root / "a.parquet").read_bytes()))
    tables = [
        run(generic(root, images={"path": name, "key": "id", "bytes": "jpeg"}), tmp_path / name)
        for name in ("a.parquet", "a.parquet.gz")
    ]
    assert tables[0] == tables[1] and len(tables[0]["media"]) == 2


@pytest.mark.parametrize("by", ["key", "column"])
def test_files_may_be_shared_by_items(root: Path, tmp_path: Path, by: str) -> None:
    write(root, "items.csv", (root / "items.csv").read_text().replace("k2,gone.jpg", "k1,a.jpg"))
    for name in ("k1.jpg", "a.jpg", "b.jpg"):
        write(root / "pictures", name, b"x")
    images = {"item_key": "cover"} if by == "key" else {"item_column": "poster", "separator": "|"}
    tables = run(generic(root, images={"folder": "pictures", **images}), tmp_path / "out")
    pictures = [row["images"] for row in tables["items"]]
    assert pictures[0] and pictures[1] == pictures[0][:1] and pictures[2] == []


@pytest.mark.parametrize("column", ["item_key", "item_column"])
def test_a_column_of_the_items_file_needs_one(root: Path, column: str) -> None:
    with pytest.raises(ValidationError, match="images: 'cover' is to be a column of the items file"):
        generic(root, items=False, images={"folder": "pictures", column: "cover"})


def test_keys_that_are_lists(root: Path, tmp_path: Path) -> None:
    lists = {"title": ["t"] * 2, "genres": ["a"] * 2, "year": [1.0] * 2, "poster": pa.array([["a.jpg", "b.jpg"], []])}
    pq.write_table(pa.table({"id": [1, 2], **lists}), root / "one.parquet")
    pq.write_table(
        pa.table({"id": [3], **{k: v[1:] for k, v in lists.items()}, "poster": ["b.jpg"]}), root / "two.parquet"
    )
    for name in ("a.jpg", "b.jpg"):
        write(root / "pictures", name, b"x")
    items = {"paths": ["one.parquet", "two.parquet"], "path": None}
    tables = run(generic(root, items=items, images={"folder": "pictures", "item_column": "poster"}), tmp_path / "out")
    assert [len(row["images"]) for row in tables["items"]] == [2, 0, 1]
    found = violations(generic(root, items=items, images={"folder": "pictures", "item_key": "poster"}), tmp_path / "no")
    assert [(v.file, v.column) for v in found if v.rule.startswith("wrong type")] == [("one.parquet", "poster")]
