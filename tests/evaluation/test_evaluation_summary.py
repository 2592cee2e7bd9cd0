"""Summaries: pooled values, intervals over units, paired differences."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from recdistill.contracts.records import Records
from recdistill.evaluation import compare, summarise, to_metrics_json


def frame(records: list[Records], path: object) -> pd.DataFrame:
    parts = []
    for at, of in enumerate(records):
        of.write(path / f"{at}.parquet")  # type: ignore[operator]
        parts.append(pd.read_parquet(path / f"{at}.parquet"))  # type: ignore[operator]
    return pd.concat(parts, ignore_index=True)


def hits(records: Records, subject: str, values: np.ndarray, unit: np.ndarray, metric: str = "recall_at_10") -> None:
    records.add(subject, "seq2item_vanilla", "all", metric, unit, pd.Index([f"u{row}" for row in range(500)]), values)


def test_value_pools_units_and_folds_then_means_over_seeds(tmp_path: object) -> None:
    parts = []
    for seed, right in ((0, 1.0), (1, 0.0)):
        for fold, unit in (("a", 0), ("b", 1)):
            records = Records(seed, fold)
            hits(records, "student", np.array([1.0, 0.0, right]), np.array([unit, unit, unit + 2]))
            parts.append(records)
    row = summarise(frame(parts, tmp_path)).iloc[0]
    assert row["value"] == pytest.approx((4 / 6 + 2 / 6) / 2)
    assert row["sd"] == pytest.approx(np.std([4 / 6, 2 / 6], ddof=1))
    assert (row["n"], row["units"]) == (2, 4)
    assert row["low"] <= row["value"] <= row["high"]


def test_interval_is_that_of_the_mean_over_units(tmp_path: object) -> None:
    """For equal units the bootstrap's width is that of the normal approximation."""
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 0.5, 400)
    records = Records(0, "time")
    hits(records, "student", values, np.arange(400))
    row = summarise(frame([records], tmp_path), draws=2000).iloc[0]
    expected = 1.96 * values.std() / 20
    assert (row["high"] - row["low"]) / 2 == pytest.approx(expected, rel=0.08)
    # Twenty rows of one unit know no more than one row: resampling rows would make the interval 4.5 times narrower.
    clustered = Records(0, "time")
    hits(clustered, "student", np.repeat(values[:20], 20), np.repeat(np.arange(20), 20))
    wide = summarise(frame([clustered], tmp_path), draws=2000).iloc[0]
    assert (wide["high"] - wide["low"]) / 2 == pytest.approx(1.96 * values[:20].std() / np.sqrt(20), rel=0.1)


def test_deterministic_and_free_of_row_order(tmp_path: object) -> None:
    rng = np.random.default_rng(1)
    records = Records(0, "time")
    for subject in ("student", "ease"):
        hits(records, subject, rng.random(60) < 0.3, rng.integers(0, 20, 60))
    table = frame([records], tmp_path)
    first = summarise(table)
    pd.testing.assert_frame_equal(first, summarise(table.sample(frac=1, random_state=3)))
    assert (summarise(table, seed=1)["low"] != first["low"]).any()


def test_paired_difference(tmp_path: object) -> None:
    rng = np.random.default_rng(2)
    unit = np.repeat(np.arange(100), 3)
    base = (rng.random(100) < 0.4).astype(float)[unit]
    records = Records(0, "time")
    hits(records, "a", base + 0.1, unit)
    hits(records, "b", base, unit)
    hits(records, "lonely", base, unit, metric="recall_at_1")
    table = frame([records], tmp_path)
    difference = compare(table, "a", "b")
    assert len(difference) == 1
    row = difference.iloc[0]
    # The shift is the same for every user: paired, its interval has no width at all.
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert row["relative"] == pytest.approx(0.1 / base.mean())
    itself = compare(table, "a", "a", other=table).iloc[0]
    assert (itself["difference"], itself["low"], itself["high"]) == (0, 0, 0)
    reverse = compare(table, "b", "a").iloc[0]
    assert reverse["low"] == pytest.approx(-row["high"])
    assert len(compare(table, "a", "nobody")) == 0


def test_unpaired_noise_is_seen(tmp_path: object) -> None:
    rng = np.random.default_rng(3)
    records = Records(0, "time")
    for subject in ("a", "b"):
        hits(records, subject, (rng.random(200) < 0.5).astype(float), np.arange(200))
    row = compare(frame([records], tmp_path), "a", "b", draws=2000).iloc[0]
    assert row["low"] < 0 < row["high"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.5 / 200), rel=0.15)


def test_figures_of_the_whole_and_json(tmp_path: object) -> None:
    parts = []
    for seed, value in ((0, 0.4), (1, 0.6)):
        records = Records(seed, "time")
        records.whole("student", "clustering", "all", "nmi", value)
        records.whole("student", "clustering", "cold", "nmi", float("nan"))
        hits(records, "student", np.array([1.0]), np.array([0]))
        hits(records, "content_student", np.array([0.25]), np.array([0]))
        parts.append(records)
    records_of_all = frame(parts, tmp_path)
    figures = to_metrics_json(summarise(records_of_all), compare(records_of_all, "student", "content_student"))
    assert figures["student/clustering/all/nmi"] == {
        "value": pytest.approx(0.5),
        "sd": pytest.approx(np.sqrt(0.02)),
        "n": 2,
        "low": None,
        "high": None,
        "units": 0,
    }
    assert "student/clustering/cold/nmi" not in figures
    assert figures["student/seq2item_vanilla/all/recall_at_10"]["units"] == 1
    assert figures["student/seq2item_vanilla/all/recall_at_10"]["gain"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert "gain" not in figures["content_student/seq2item_vanilla/all/recall_at_10"]
    json.dumps(figures, allow_nan=False)


def _whole_figures(metric: str, given: dict[tuple[int, str], tuple[float, float, float]]) -> list[Records]:
    """Records of one figure of the whole: (seed, fold) → value, low, high."""
    parts = []
    for (seed, fold), (value, low, high) in given.items():
        records = Records(seed, fold)
        records.whole("student", "ranker", "all", metric, value, interval=(low, high))
        parts.append(records)
    return parts


def test_intervals_of_whole_figures_shrink_with_the_folds_and_not_with_the_seeds(tmp_path: object) -> None:
    """By hand: fold a .7 − .1 + .25, fold b .4 − .2 + .2, each the mean of two seeds."""
    given = {
        (0, "a"): (0.6, 0.5, 0.9),
        (1, "a"): (0.8, 0.7, 1.0),
        (0, "b"): (0.3, 0.1, 0.4),
        (1, "b"): (0.5, 0.3, 0.8),
    }
    row = summarise(frame(_whole_figures("auc_delta", given), tmp_path)).iloc[0]
    assert row["value"] == pytest.approx(0.55)
    assert row["low"] == pytest.approx(0.55 - np.sqrt(0.1**2 + 0.2**2) / 2)
    assert row["high"] == pytest.approx(0.55 + np.sqrt(0.25**2 + 0.2**2) / 2)
    one = summarise(frame(_whole_figures("auc", {key: given[key] for key in given if key[1] == "a"}), tmp_path)).iloc[0]
    assert (one["value"], one["low"], one["high"]) == pytest.approx((0.7, 0.6, 0.95))
    # The surrogate is fitted and judged on the whole log in every fold: more folds know no more.
    for figure in ("lt7_r2", "lt30_proxy", "lt7_proxy_delta"):
        same = summarise(frame(_whole_figures(figure, given), tmp_path)).iloc[0]
        assert (same["low"], same["high"]) == pytest.approx((0.4, 0.775))


def test_a_fold_without_an_interval_leaves_the_mean_without_one(tmp_path: object) -> None:
    parts = _whole_figures("auc", {(0, "a"): (0.6, 0.5, 0.9)})
    parts.append(Records(0, "b"))
    parts[-1].whole("student", "ranker", "all", "auc", 0.5)
    row = summarise(frame(parts, tmp_path)).iloc[0]
    assert row["value"] == pytest.approx(0.55)
    assert np.isnan(row[["low", "high"]].astype(float)).all()


def test_nothing_to_summarise(tmp_path: object) -> None:
    empty = frame([Records(0, "time")], tmp_path)
    assert len(summarise(empty)) == 0
    assert to_metrics_json(summarise(empty), compare(empty, "student", "content_student")) == {}


def test_seeds_that_ask_a_fold_each_count_alike_and_their_users_err_apart(tmp_path: object) -> None:
    """One fold a seed: the mean of two means of different users, whose variances add up to (v₀/n₀ + v₁/n₁) / 4."""
    rng = np.random.default_rng(4)
    parts, values = [], []
    for seed, (mean, count) in enumerate(((1.0, 100), (3.0, 300))):
        values.append(rng.normal(mean, 0.5, count))
        records = Records(seed, f"fold-{seed}")
        hits(records, "student", values[-1], np.arange(count) + 100 * seed)
        parts.append(records)
    row = summarise(frame(parts, tmp_path), draws=2000).iloc[0]
    assert row["value"] == pytest.approx((values[0].mean() + values[1].mean()) / 2)
    assert (row["n"], row["units"]) == (2, 400)
    error = np.sqrt(values[0].var() / 100 + values[1].var() / 300) / 2
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_a_comparison_leaves_out_the_seeds_and_units_that_one_side_lacks(tmp_path: object) -> None:
    """By hand: b has no fold of seed 1, and not item 2 of seed 0; item 3 is asked in both seeds' folds."""
    parts = [Records(0, "fold-0"), Records(1, "fold-1")]
    hits(parts[0], "a", np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 1, 2, 3]))
    hits(parts[0], "b", np.array([0.0, 0.0, 1.0]), np.array([0, 1, 3]))
    hits(parts[1], "a", np.array([0.0, 0.0]), np.array([3, 4]))
    table = frame(parts, tmp_path)
    row = compare(table, "a", "b").iloc[0]
    assert (row["a"], row["b"], row["units"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 3)
    # Another run may have other seeds: there an item counts that both have in any seed, and seeds without one do not.
    other = frame(parts[:1], tmp_path)
    other["seed"] = 7
    of_runs = compare(table, "a", "b", other=other).iloc[0]
    assert (of_runs["a"], of_runs["b"]) == (pytest.approx((2 / 3 + 0) / 2), pytest.approx(1 / 3))
    strangers = compare(table[table["unit"].isin(["u0", "u1", "u4"])], "a", "b", other=other).iloc[0]
    assert (strangers["a"], strangers["units"]) == (0.5, 2)  # seed 1 keeps no unit that b has


def test_paired_difference_of_one_fold_a_seed(tmp_path: object) -> None:
    rng = np.random.default_rng(5)
    parts = []
    for seed in range(2):
        unit = np.arange(50) + 50 * seed
        base = (rng.random(50) < 0.4).astype(float)
        parts.append(Records(seed, f"fold-{seed}"))
        hits(parts[-1], "a", base + 0.1, unit)
        hits(parts[-1], "b", base, unit)
    row = compare(frame(parts, tmp_path), "a", "b").iloc[0]
    assert (row["difference"], row["low"], row["high"], row["units"]) == pytest.approx((0.1, 0.1, 0.1, 100))


def test_whole_figures_of_one_fold_a_seed(tmp_path: object) -> None:
    """By hand: each record weighs a third; those of one fold err together, and folds apart."""
    given = {(0, "a"): (0.6, 0.5, 0.9), (1, "b"): (0.3, 0.1, 0.4), (2, "a"): (0.9, 0.7, 1.0)}
    row = summarise(frame(_whole_figures("auc_delta", given), tmp_path)).iloc[0]
    assert (row["value"], row["n"]) == (pytest.approx(0.6), 3)
    assert row["low"] == pytest.approx(0.6 - np.hypot((0.1 + 0.2) / 3, 0.2 / 3))
    assert row["high"] == pytest.approx(0.6 + np.hypot((0.3 + 0.1) / 3, 0.1 / 3))
    same = summarise(frame(_whole_figures("lt7_r2", given), tmp_path)).iloc[0]
    assert (same["low"], same["high"]) == pytest.approx((0.6 - 0.5 / 3, 0.6 + 0.5 / 3))
