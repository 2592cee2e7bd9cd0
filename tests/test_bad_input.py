"""Twelve kinds of bad input: one clear report, the right exit code, never a traceback.

``pytest tests/test_bad_input.py -s`` prints what a user sees for each.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from recdistill.cli import app
from recdistill.contracts.tables import read_table

USERS, ITEMS, EVENTS = 40, 30, 600


@dataclass
class Case:
    """A good log, its recipe, and what a test has spoilt of them."""

    folder: Path
    recipe: dict
    stage: str = "validate"

    def write_events(self, frame: pd.DataFrame) -> None:
        frame.to_csv(self.folder / "events.csv", index=False)

    @property
    def events(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "events.csv")


@pytest.fixture
def case(tmp_path) -> Case:
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw"
    (folder / "pictures").mkdir(parents=True)
    pd.DataFrame(
        {
            "user": [f"u{i}" for i in rng.integers(0, USERS, EVENTS)],
            "item": [f"i{i}" for i in rng.integers(0, ITEMS, EVENTS)],
            "rating": rng.integers(1, 6, EVENTS),
            "at": rng.integers(1_600_000_000, 1_610_000_000, EVENTS),
        }
    ).to_csv(folder / "events.csv", index=False)
    pd.DataFrame(
        {
            "id": [f"i{i}" for i in range(ITEMS)],
            "title": [f"a tale of {i} cities" for i in range(ITEMS)],
            "genre": ["drama", "comedy"] * (ITEMS // 2),
        }
    ).to_csv(folder / "items.csv", index=False)
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(folder / "pictures" / f"i{i}.jpg")
    recipe = {
        "name": "bad input",
        "data": {
            "adapter": "generic",
            "root": str(folder),
            "images": {"folder": "pictures"},
            "interactions": {
                "path": "events.csv",
                "columns": {"user": "user", "item": "item", "timestamp": "at", "value": "rating"},
                "behaviours": [{"name": "like", "column": "rating", "at_least": 4}],
            },
            "items": {
                "path": "items.csv",
                "id": "id",
                "text": {"title": "title"},
                "tags": {"genre": {"column": "genre"}},
            },
        },
    }
    return Case(folder, recipe)


def missing_column(case: Case) -> None:
    case.write_events(case.events.drop(columns="at"))


def wrong_type(case: Case) -> None:
    case.write_events(case.events.astype({"at": object}).assign(at=lambda f: f["at"].where(f.index != 7, "yesterday")))


def duplicate_keys(case: Case) -> None:
    items = pd.read_csv(case.folder / "items.csv")
    pd.concat([items, items.head(2).assign(title="another")]).to_csv(case.folder / "items.csv", index=False)


def future_timestamps(case: Case) -> None:
    case.write_events(case.events.assign(at=lambda f: f["at"].where(f.index > 2, 32_503_680_000)))


def empty_file(case: Case) -> None:
    (case.folder / "events.csv").write_bytes(b"")


def truncated_gz(case: Case) -> None:
    packed = gzip.compress((case.folder / "events.csv").read_bytes())
    (case.folder / "events.csv.gz").write_bytes(packed[: len(packed) // 2])
    case.recipe["data"]["interactions"]["path"] = "events.csv.gz"


def non_utf8_text(case: Case) -> None:
    text = (case.folder / "items.csv").read_text().replace("a tale of 3 cities", "un café")
    (case.folder / "items.csv").write_bytes(text.encode("latin-1"))


def corrupt_jpeg(case: Case) -> None:
    (case.folder / "pictures" / "i2.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    case.stage = "encode"


def unknown_item_id(case: Case) -> None:
    case.write_events(case.events.assign(item=lambda f: f["item"].where(f.index != 5, "ghost")))


def unknown_config_key(case: Case) -> None:
    case.recipe["distill"] = {"learning_rte": 0.1}


def all_negative_user(case: Case) -> None:
    case.write_events(case.events.assign(rating=lambda f: f["rating"].where(f["user"] != "u3", 1)))


def nan_in_external_teacher(case: Case) -> None:
    vectors = np.ones((ITEMS, 4), np.float32)
    vectors[11, 2] = np.nan
    pd.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "embedding": list(vectors)}).to_parquet(
        case.folder / "production.parquet"
    )
    case.recipe["teachers"] = {"external": [{"name": "production", "path": str(case.folder / "production.parquet")}]}
    case.stage = "teach"


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (missing_column, 2, ["events.csv", "at", "missing"]),
        (wrong_type, 2, ["events.csv", "at", "yesterday"]),
        (duplicate_keys, 2, ["items.csv", "id", "i0"]),
        (future_timestamps, 2, ["events.csv", "at", "future"]),
        (empty_file, 2, ["events.csv", "empty"]),
        (truncated_gz, 2, ["events.csv.gz"]),
        (non_utf8_text, 2, ["items.csv", "utf-8"]),
        (corrupt_jpeg, 0, ["picture or sound", "i2"]),
        (unknown_item_id, 2, ["ghost"]),
        (unknown_config_key, 2, ["distill.learning_rte", "did you mean 'learning_rate'"]),
        (all_negative_user, 0, ["1 user"]),
        (nan_in_external_teacher, 2, ["production.parquet", "NaN", "i11"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, Callable) else None,
)
def test_bad_input(case: Case, tmp_path, spoil, code, words, monkeypatch):
    monkeypatch.setenv("RECDISTILL_CACHE", str(tmp_path / "cache"))
    spoil(case)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(case.recipe))
    result = CliRunner().invoke(app, [case.stage, str(path), "--out", str(tmp_path / "run")])
    print(f"\n--- {spoil.__name__}: exit {result.exit_code}\n{result.stderr}")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word.lower() in result.stderr.lower()
    if code == 2:
        assert "remedy" in result.stderr.lower()
    if spoil is corrupt_jpeg:
        bad = read_table(tmp_path / "run" / "content" / "bad_media.parquet").to_pandas()
        assert bad.item_id.tolist() == ["i2"]


def test_the_untouched_log_passes(case: Case, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(case.recipe))
    assert CliRunner().invoke(app, ["validate", str(path), "--out", str(tmp_path / "run")]).exit_code == 0
    assert len(read_table(tmp_path / "run" / "data" / "interactions.parquet")) == EVENTS
