"""Metric records → figures with intervals, and paired differences between subjects.

A decomposable figure is Σ total / Σ count over its units (pooled over folds), then the mean over seeds. Its interval
is a percentile bootstrap over units (Efron and Tibshirani, 1993, chapter 13): a unit drawn is drawn for every seed,
metric and subject alike, so differences are paired.

Shapes: n units, c columns (subject, metric, seed), D draws.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names

KEY = [names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC]
LEVEL = 0.95
_DRAWN_NUMBERS = 20_000_000


def summarise(records: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per (subject, benchmark, split, metric).

    Memory: the records, and 8·(D·n + 2·n·c) bytes for one benchmark and split.

    Args:
        records: rows of ``metric_records`` of any number of seeds and folds.
        draws: bootstrap draws D.
        seed: of the bootstrap.

    Returns:
        columns of the key, ``value`` (mean over seeds), ``sd`` over seeds (0 when there is one), ``n`` seeds,
        ``low``, ``high`` (95 %, NaN where unknown) and ``units``; sorted by key.
    """
    by_unit = records[names.UNIT].notna()
    rows = _whole(records[~by_unit])
    for key, part in _groups(records[by_unit], [names.BENCHMARK, names.SPLIT]):
        benchmark, split = key
        totals, counts = _by_unit(part)
        values = _ratio(totals.sum(axis=0), counts.sum(axis=0))
        drawn = _bootstrap(totals.to_numpy(), counts.to_numpy(), draws=draws, seed=seed)
        places: dict[tuple[str, str], list[int]] = {}  # a column a seed
        for at, column in enumerate(totals.columns.tolist()):
            places.setdefault((column[0], column[1]), []).append(at)
        for (subject, metric), columns in places.items():
            over_seeds = values[columns]
            low, high = _interval(drawn[:, columns].mean(axis=1))
            rows.append({
                names.SUBJECT: subject, names.BENCHMARK: benchmark, names.SPLIT: split, names.METRIC: metric,
                "value": float(over_seeds.mean()), "sd": _sd(over_seeds), "n": len(columns), "low": low, "high": high,
                "units": int((counts.iloc[:, columns] > 0).any(axis=1).sum()),
            })
    header = [*KEY, "value", "sd", "n", "low", "high", "units"]
    return pd.DataFrame(rows, columns=header).sort_values(KEY, ignore_index=True)


def to_metrics_json(summary: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The content of ``metrics.json``: ``subject/benchmark/split/metric`` → value, sd, n, low, high, units."""
    figures = {}
    for row in summary.to_dict("records"):
        if math.isfinite(row["value"]):
            figures["/".join(str(row[part]) for part in KEY)] = {
                "value": row["value"], "sd": row["sd"], "n": int(row["n"]),
                "low": _or_none(row["low"]), "high": _or_none(row["high"]), "units": int(row["units"]),
            }
    return figures


def compare(
    records: pd.DataFrame,
    subject_a: str,
    subject_b: str,
    *,
    other: pd.DataFrame | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Difference a − b of every decomposable figure that both have, by paired bootstrap over their common units.

    Args:
        records: of one run.
        subject_a, subject_b: subjects of that run; with ``other``, b is looked for there.
        other: records of another run on the same units.

    Returns:
        benchmark, split, metric, ``a``, ``b``, ``difference``, ``low``, ``high`` (95 %), ``relative`` (difference / b),
        ``units``; one row a figure, sorted.
    """
    sides = [records[records[names.SUBJECT] == subject_a], (records if other is None else other)]
    sides[1] = sides[1][sides[1][names.SUBJECT] == subject_b]
    parts = [dict(_groups(side[side[names.UNIT].notna()], KEY[1:])) for side in sides]
    rows = []
    for key in sorted(set(parts[0]) & set(parts[1])):
        tables = [_by_unit(part[key]) for part in parts]
        common = tables[0][0].index.intersection(tables[1][0].index)
        if not len(common):
            continue
        means, drawn = [], []
        for totals, counts in ((totals.loc[common], counts.loc[common]) for totals, counts in tables):
            means.append(float(_ratio(totals.sum(axis=0), counts.sum(axis=0)).mean()))
            drawn.append(_bootstrap(totals.to_numpy(), counts.to_numpy(), draws=draws, seed=seed).mean(axis=1))
        low, high = _interval(drawn[0] - drawn[1])
        difference = means[0] - means[1]
        rows.append({
            **dict(zip(KEY[1:], key, strict=True)),
            "a": means[0], "b": means[1], "difference": difference, "low": low, "high": high,
            "relative": difference / means[1] if means[1] else math.nan, "units": len(common),
        })
    columns = [*KEY[1:], "a", "b", "difference", "low", "high", "relative", "units"]
    return pd.DataFrame(rows, columns=columns)


def _whole(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Figures that do not divide by unit: mean over folds, then over seeds; their own intervals are averaged."""
    rows = []
    for key, part in _groups(records, KEY):
        sums = part.groupby(names.SEED)[[names.TOTAL, names.COUNT]].sum()
        values = _ratio(sums[names.TOTAL], sums[names.COUNT])
        rows.append({
            **dict(zip(KEY, key, strict=True)), "value": float(values.mean()), "sd": _sd(values), "n": len(values),
            "low": float(part[names.LOW].astype(float).mean(skipna=False)),
            "high": float(part[names.HIGH].astype(float).mean(skipna=False)), "units": 0,
        })
    return rows


def _groups(records: pd.DataFrame, by: list[str]) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    found: Any = records.groupby(by, observed=True, sort=True)  # the stubs do not know the keys are strings
    return list(found)


def _by_unit(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """[n, c] totals and counts, zero where a unit has none; units sorted, so that draws depend on no row order."""
    keys = [records[name].astype(str) for name in (names.SUBJECT, names.METRIC)]
    grouped = records.groupby([records[names.UNIT].astype(str), *keys, records[names.SEED]], sort=True)
    sums = grouped[[names.TOTAL, names.COUNT]].sum()
    total, count = (sums[name].unstack([1, 2, 3]).fillna(0.0) for name in (names.TOTAL, names.COUNT))
    return total.sort_index().sort_index(axis=1), count.sort_index().sort_index(axis=1)


def _bootstrap(totals: np.ndarray, counts: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """[D, c] the ratio in each draw of n units out of n; NaN where a draw has no count."""
    units = len(totals)
    rng = np.random.default_rng(seed)
    parts = []
    block = max(1, _DRAWN_NUMBERS // units)
    for start in range(0, draws, block):
        weights = rng.multinomial(units, np.full(units, 1 / units), size=min(block, draws - start)).astype(np.float64)
        parts.append(_ratio(weights @ totals, weights @ counts))
    return np.concatenate(parts)


def _ratio(total: Any, count: Any) -> np.ndarray:
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]
    if len(known) < LEVEL * len(drawn):  # too few units to say
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
