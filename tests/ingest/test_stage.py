"""The stage as a whole: fingerprints, the planted world, all faults in one report, the packaged folders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_helpers import ITEMS, LOG, generic, run, write
from pydantic import ValidationError

from recdistill import resources
from recdistill.contracts.validate import ContractViolations
from recdistill.errors import UserError
from recdistill.ingest import DataConfig, check_tables, ingest, input_fingerprint
from recdistill.ingest.synthetic import WorldConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, "log.csv", LOG)
    write(folder, "items.csv", ITEMS)
    write(folder, "pictures/1.jpg", b"x")
    write(folder, "tags.csv", "movie,tag\n1,fun\n")
    return folder


def whole(root: Path) -> DataConfig:
    labels = {"x": {"path": "tags.csv", "item": "movie", "column": "tag"}}
    return generic(root, items={"labels": labels}, images={"folder": "pictures"})


def test_fingerprint_follows_every_input_and_nothing_else(root: Path, tmp_path: Path) -> None:
    seen = [input_fingerprint(whole(root))]
    moved = tmp_path / "moved"
    root.rename(moved)
    assert input_fingerprint(whole(moved)) == seen[0] and len(seen[0]) == 64
    write(moved, "unrelated.csv", "x")
    assert input_fingerprint(whole(moved)) == seen[0]
    for name in ("log.csv", "items.csv", "tags.csv", "pictures/1.jpg"):
        path = moved / name
        path.write_bytes(path.read_bytes() + b"\n")
        seen.append(input_fingerprint(whole(moved)))
    (moved / "pictures/1.jpg").rename(moved / "pictures/2.jpg")
    seen.append(input_fingerprint(whole(moved)))
    assert len(set(seen)) == len(seen)


def test_fingerprint_of_missing_files_lists_them(tmp_path: Path) -> None:
    with pytest.raises(ContractViolations) as caught:
        input_fingerprint(generic(tmp_path))
    assert [v.file for v in caught.value.violations] == ["log.csv", "items.csv"]


def test_same_input_same_bytes(root: Path, tmp_path: Path) -> None:
    for turn in "ab":
        ingest(whole(root), out=tmp_path / turn)
    for name in ("interactions.parquet", "items.parquet", "media.parquet", "validation.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_relative_roots_give_absolute_media_paths(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (row,) = run(whole(Path("raw")), tmp_path / "out")["media"]
    assert row["path"] == str(root / "pictures" / "1.jpg")


def test_the_planted_world_satisfies_the_contracts(tmp_path: Path) -> None:
    config = DataConfig(adapter="synthetic", world=WorldConfig.tiny())
    ingest(config, out=tmp_path)
    report = json.loads((tmp_path / "validation.json").read_text())
    log = pq.read_table(tmp_path / "interactions.parquet").to_pandas()
    assert report["interactions"]["events"] == len(log) and report["interactions"]["users"] == log.user_id.nunique()
    positive = log.behaviours.map(len) > 0
    assert report["interactions"]["positives"] == positive.sum()
    by_user = positive.groupby(log.user_id).any()
    assert report["interactions"]["users_without_positive"] == (~by_user).sum()
    assert report["interactions"]["behaviours"] == log.behaviours.explode().value_counts().sort_index().to_dict()
    assert input_fingerprint(config) != input_fingerprint(
        DataConfig(adapter="synthetic", world=WorldConfig.tiny(seed=1))
    )


def test_the_worlds_media_are_checked(tmp_path: Path) -> None:
    ingest(DataConfig(adapter="synthetic", world=WorldConfig.tiny()), out=tmp_path)
    media = pq.read_table(tmp_path / "media.parquet")
    pq.write_table(media.slice(3), tmp_path / "media.parquet")
    log = pq.read_table(tmp_path / "interactions.parquet")
    pq.write_table(log.set_column(1, "item_id", pa.array(["nothing"] * len(log))), tmp_path / "interactions.parquet")
    with pytest.raises(ContractViolations) as caught:
        check_tables(tmp_path, tolerance_hours=0)
    assert {v.rule for v in caught.value.violations} == {"not in media.media_id"}
    pq.write_table(media, tmp_path / "media.parquet")
    with pytest.raises(ContractViolations, match=r"not in items\.item_id"):
        check_tables(tmp_path, tolerance_hours=0)


def test_a_killed_write_leaves_the_old_table(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    before = run(whole(root), out)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", fail)
    with pytest.raises(KeyboardInterrupt):
        ingest(whole(root), out=out)
    monkeypatch.undo()
    assert {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in before} == before
    assert not list(out.glob(".*"))


def test_the_report_is_readable(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG + "u4,99,five,1000000000\n" * 9)
    write(root, "items.csv", ITEMS + "1,Again,,\n")
    with pytest.raises(UserError) as caught:
        ingest(whole(root), out=tmp_path / "out")
    text = str(caught.value)
    assert text.startswith("the data have 2 faults")
    assert "log.csv\n  rating: not a number · 9 rows\n    row 5: 'five' · row 6: 'five'" in text and " …\n" in text
    assert "items.csv\n  id: duplicate key" in text and text.count("remedy: ") == 2


def test_packaged_folders() -> None:
    assert (resources.data_contracts() / "interactions.yaml").is_file()
    assert resources.experiments().is_dir()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_settings_are_finite(root: Path, value: float) -> None:
    for more in ({"log": {"merge_within_seconds": value}}, {"future_tolerance_hours": value}):
        with pytest.raises(ValidationError, match=r"finite number|less than or equal"):
            generic(root, **more)
