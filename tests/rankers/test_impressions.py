"""``impressions.py`` of the benchmarks: MIND's four figures of lists worked out by hand, and the printed table."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recdistill.contracts.log import Log
from recdistill.contracts.tables import write_table
from recdistill.rankers.predictions import Predictions, write_predictions
from recdistill.rankers.rows import Rows


@pytest.fixture
def impressions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
    return importlib.import_module("impressions")


def test_a_list_by_hand(impressions: ModuleType) -> None:
    """Clicked are ranks 2 and 6 of six: 3 of 8 pairs are right; 1/2 and 1/6; gains 1/log2(3) and 1/log2(7)."""
    label = np.array([False, True, False, False, False, True])
    score = np.array([6.0, 5, 4, 3, 2, 1])
    ideal = 1 + 1 / math.log2(3)
    want = (3 / 8, (1 / 2 + 1 / 6) / 2, 1 / math.log2(3) / ideal, (1 / math.log2(3) + 1 / math.log2(7)) / ideal)
    assert impressions.of_impression(label, score) == pytest.approx(want)


def test_equal_scores_earn_what_chance_earns(impressions: ModuleType) -> None:
    auc, mrr, *_ = impressions.of_impression(np.array([True, False, False, False]), np.zeros(4))
    assert (auc, mrr) == (0.5, pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4))
    two = impressions.of_impression(np.array([False, True, False, True]), np.array([9.0, 5, 5, 1]))
    assert two[1] == pytest.approx(((1 / 2 + 1 / 3) / 2 + 1 / 4) / 2)


def write_run(folder: Path, *, time: list[int]) -> None:
    """User u0 sees two lists, u1 one that nobody could rank: all of it is clicked."""
    user, item = np.array([0, 0, 0, 0, 0, 1, 1], dtype=np.int32), np.arange(7, dtype=np.int32)
    label = np.array([True, False, False, True, False, True, True])
    rows = Rows(user, item, np.array(time), label, label.astype(np.int64), np.ones(7, dtype=bool))
    nobody = np.zeros(0, dtype=np.int32)
    ids = pd.Index(["u0", "u1"]), pd.Index([f"i{n}" for n in range(7)])
    history = Log(*ids, nobody, nobody, nobody, nobody, ("click",), nobody.astype(np.float32))
    logits = {"none": np.array([0.0, 1, -1, 0, 1, 0, 1]), "student": np.array([2.0, 1, 3, 1, 0, 0, 1])}
    write_predictions(
        folder / "seed-0" / "time" / "rank" / "predictions.parquet",
        rows,
        {"din": logits},
        history=history,
        splits={"all": np.ones(7, dtype=bool)},
        seed=0,
    )

    stamps = pa.array([1, *time], pa.timestamp("us", "UTC"))
    clicks = pa.array([["click"], *(["click"] if one else [] for one in label)], pa.list_(pa.string()))
    columns = {
        "item_id": ["i3", *ids[1]],
        "timestamp": stamps,
        "behaviours": clicks,
        "impression_id": [None, *"aaabbcc"],
    }
    write_table(pa.table({"user_id": ["u9", *ids[0][user]], **columns}), folder / "data" / "interactions.parquet")


def printed(impressions: ModuleType, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["impressions.py", str(run), "--draws", "20"])
    impressions.main()


def test_lists_are_a_user_and_a_time(
    impressions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """none: AUCs 1/2 and 0; student: 1/2 and 1; the list without non-clicks is left out."""
    write_run(tmp_path, time=[1, 1, 1, 2, 2, 2, 2])
    printed(impressions, tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert "2 impressions of 1 users" in lines[0] and "5 rows" in lines[0]
    assert lines[2].split()[:2] == ["din/none", "25.00"]
    assert lines[3].split()[:2] == ["din/student", "75.00"] and "+50.00 [+50.00, +50.00]" in lines[3]


def test_the_click_rate_reads_impressions_strictly_before_a_row(impressions: ModuleType, tmp_path: Path) -> None:
    """Item i0 is shown twice before the last row, clicked once; before the first row nobody saw anything."""
    times = pa.array([1, 2, 3, 3], pa.timestamp("us", "UTC"))
    clicks = pa.array([["click"], [], ["click"], ["click"]], pa.list_(pa.string()))
    log = {"item_id": ["i0", "i0", "i0", "i1"], "timestamp": times, "behaviours": clicks, "impression_id": [*"abcd"]}
    write_table(pa.table(log), tmp_path / "interactions.parquet")
    asked = pa.table({"user_id": ["u", "u"], "item_id": ["i1", "i0"], "timestamp": times[2:]})
    nobody = Predictions(np.zeros(2), asked, np.zeros(2, dtype=bool), {}, {})
    found = impressions.click_rate(tmp_path / "interactions.parquet", nobody)
    assert found == pytest.approx([(10 * 0.5) / 10, (1 + 10 * 0.5) / 12])


def test_a_log_without_lists_is_refused(
    impressions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, time=[1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(SystemExit):
        printed(impressions, tmp_path, monkeypatch)
    assert "is it a log of impressions?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        printed(impressions, tmp_path / "seed-0", monkeypatch)
    assert "give a finished run's folder" in capsys.readouterr().err
