from __future__ import annotations

import json
import math
from pathlib import Path

import fake_run
import numpy as np
import pytest
from rich.console import Console

from recdistill.errors import UserError
from recdistill.evaluation.metrics import DIRECTIONS
from recdistill.report import compare, summary_table, wording


def _printed(what: object, width: int = 160) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [
        fake_run.write_run(root / name, seeds=(0,), items=40, users=60, shift=shift)
        for name, shift in (("base", 0.0), ("better", 0.08))
    ]


def test_summary_shows_subjects_groups_and_marks_lt_as_proxy(runs: list[Path]) -> None:
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    text = _printed(summary_table(metrics))
    figure = metrics["student/seq2item_vanilla/all/recall_at_10"]
    half = 100 * (figure["high"] - figure["low"]) / 2
    assert f"{100 * figure['value']:.2f} ±{half:.2f}" in text
    for word in (
        "Student",
        "Content-only student",
        "Kernel ridge",
        "EASE",
        "Popularity",
        "Raw content + student",
        "LT7 (proxy)",
    ):
        assert word in text


def test_summary_fits_a_narrow_terminal_and_no_figures_at_all(runs: list[Path]) -> None:
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    assert max(len(line) for line in _printed(summary_table(metrics), width=100).splitlines()) <= 100
    assert "no figures" in _printed(summary_table({}))


def test_compare_pairs_the_units_and_finds_the_planted_difference(runs: list[Path]) -> None:
    found = compare(runs, draws=300)
    assert found.runs == ("base", "better")
    row = found.frame.set_index(["benchmark", "split", "metric"]).loc[("seq2item_vanilla", "all", "recall_at_10")]
    values = [
        json.loads((run / "metrics.json").read_text())["student/seq2item_vanilla/all/recall_at_10"]["value"]
        for run in runs
    ]
    assert row["base/value"] == values[0]
    assert row["better/difference"] == pytest.approx(values[1] - values[0])
    assert 0 < row["better/difference low"] < row["better/difference"] < row["better/difference high"]
    text = _printed(found)
    assert "− base" in text
    assert "seq2item vanilla · all · R@10" in text


def test_compare_with_itself_is_exactly_nothing(runs: list[Path]) -> None:
    found = compare([runs[0], runs[0]], draws=100)
    assert found.runs[0] != found.runs[1]
    differences = found.frame[f"{found.runs[1]}/difference"]
    assert (differences.abs() < 1e-12).all()
    whole = found.frame["metric"] == "auc"  # a figure of the whole has no units to pair
    assert found.frame.loc[whole, f"{found.runs[1]}/difference low"].isna().all()
    assert found.frame.loc[~whole, f"{found.runs[1]}/difference low"].notna().any()


def test_compare_tells_what_is_wrong(tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(UserError, match=r"no metrics\.json"):
        compare([tmp_path])
    with pytest.raises(UserError, match="no run has figures of the subject 'nobody'"):
        compare(runs, subject="nobody")


def test_compare_shows_a_figure_that_one_run_lacks(runs: list[Path]) -> None:
    found = compare(runs, subject="none", metrics=["ranker/all/auc", "ranker/all/gauc"], draws=50)
    assert list(found.frame["metric"]) == ["auc", "gauc"]
    assert np.isfinite(found.frame["better/value"]).all()


@pytest.mark.parametrize("metric", sorted(DIRECTIONS))
def test_every_classified_metric_has_words_and_its_direction(metric: str) -> None:
    name = f"{metric}_at_10" if metric in ("recall", "ndcg", "mrr", "topk_overlap") else metric
    assert wording.metric_label(name)
    assert wording.lower_is_better(name) == (DIRECTIONS[metric] == "lower")


def test_numbers_as_they_are_read() -> None:
    assert wording.number("recall_at_10", 0.0942) == "9.42"
    assert wording.number("recall_at_25_among_cold", -0.012, signed=True) == "−1.20"
    assert wording.number("auc", 0.80969) == "0.8097"
    assert wording.number("lt7_proxy_delta", 0.0213, signed=True) == "+0.021"
    assert wording.number("auc", math.nan) == "–"
    assert wording.interval("auc", None, 0.5) == ""
    assert wording.count(100836) == "100\u202f836"
    assert wording.metric_label("recall_at_25_among_cold") == "R@25 among cold"
