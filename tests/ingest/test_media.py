"""Pictures and sounds find their items; what is missing is counted; nothing is decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_helpers import ITEMS, LOG, generic, run, violations, write

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
