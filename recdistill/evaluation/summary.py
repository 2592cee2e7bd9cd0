"""Metric records → figures with intervals, and paired differences between subjects.

A decomposable figure is Σ total / Σ count over its units (pooled over folds), then the mean over seeds. Its interval
is a percentile bootstrap over units (Efron and Tibshirani, 1993, chapter 13): a unit drawn is drawn for every seed,
metric and subject alike, so differences are paired. A figure that does not decompose brings an interval for each
seed and fold: they are averaged over seeds and combined over folds as independent errors.

Shapes: n units, c columns (subject, metric, seed), D draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names

KEY = [names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC]
LEVEL = 0.95
_DRAWN_NUMBERS = 10_000_000
# Whole figures that every fold takes from all users' events, so that the folds' errors are not independent.
_OF_THE_WHOLE_LOG = frozenset({"lt7_r2", "lt30_r2"})


def summarise(records: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per (subject, benchmark, split, metric).

    Memory: the records, and 8·(10 million + 2·n·c) bytes for one benchmark and split.

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
    for (benchmark, split), table in _tables(records[by_unit]).items():
        values = _ratio(table.totals.sum(axis=0), table.counts.sum(axis=0))
        drawn = _bootstrap(table.totals, table.counts, draws=draws, seed=seed)
        for (subject, metric), columns in table.figures.items():
            low, high = _interval(drawn[:, columns].mean(axis=1))
            rows.append(
                {
                    names.SUBJECT: subject,
                    names.BENCHMARK: benchmark,
                    names.SPLIT: split,
                    names.METRIC: metric,
                    "value": float(values[columns].mean()),
                    "sd": _sd(values[columns]),
                    "n": len(columns),
                    "low": low,
                    "high": high,
                    "units": int((table.counts[:, columns] > 0).any(axis=1).sum()),
                }
            )
    header = [*KEY, "value", "sd", "n", "low", "high", "units"]
    return pd.DataFrame(rows, columns=header).sort_values(KEY, ignore_index=True)


def to_metrics_json(summary: pd.DataFrame, gains: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The content of ``metrics.json``: ``subject/benchmark/split/metric`` → value, sd, n, low, high, units.

    Args:
        summary: of :func:`summarise`.
        gains: of :func:`compare` for student and content-only student; the student's figures get ``gain``: value, low,
            high of the paired difference, which two intervals side by side cannot tell.
    """
    gain = {
        "/".join(("student", *(str(row[part]) for part in KEY[1:]))): {
            "value": row["difference"],
            "low": _or_none(row["low"]),
            "high": _or_none(row["high"]),
        }
        for row in gains.to_dict("records")
    }
    figures = {}
    for row in summary.to_dict("records"):
        if math.isfinite(row["value"]):
            key = "/".join(str(row[part]) for part in KEY)
            figures[key] = {
                "value": row["value"],
                "sd": row["sd"],
                "n": int(row["n"]),
                "low": _or_none(row["low"]),
                "high": _or_none(row["high"]),
                "units": int(row["units"]),
                **({"gain": gain[key]} if key in gain else {}),
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
    sides = []
    for of, subject in ((records, subject_a), (records if other is None else other, subject_b)):
        sides.append(_tables(of[(of[names.SUBJECT] == subject) & of[names.UNIT].notna()]))
    rows = []
    for key in sorted(set(sides[0]) & set(sides[1])):
        first, second = sides[0][key], sides[1][key]
        common = first.units.intersection(second.units)
        for _, metric in first.figures:
            if (subject_b, metric) not in second.figures:
                continue
            pair = [first.of(subject_a, metric, common), second.of(subject_b, metric, common)]
            both = (pair[0][1] > 0).any(axis=1) & (pair[1][1] > 0).any(axis=1)
            if not both.any():
                continue
            a, b = (float(_ratio(totals[both].sum(axis=0), counts[both].sum(axis=0)).mean()) for totals, counts in pair)
            drawn = [
                _bootstrap(totals[both], counts[both], draws=draws, seed=seed).mean(axis=1) for totals, counts in pair
            ]
            low, high = _interval(drawn[0] - drawn[1])
            rows.append(
                {
                    names.BENCHMARK: key[0],
                    names.SPLIT: key[1],
                    names.METRIC: metric,
                    "a": a,
                    "b": b,
                    "difference": a - b,
                    "low": low,
                    "high": high,
                    "relative": (a - b) / b if b else math.nan,
                    "units": int(both.sum()),
                }
            )
    header = [*KEY[1:], "a", "b", "difference", "low", "high", "relative", "units"]
    return pd.DataFrame(rows, columns=header)


@dataclass(frozen=True)
class _Table:
    """One benchmark and split: what each unit (sorted) gives to each figure and seed.

    Attributes:
        units: [n].
        figures: (subject, metric), sorted → its columns, one a seed.
        totals, counts: [n, c] float64, zero where a unit has no record.
    """

    units: pd.Index
    figures: dict[tuple[str, str], list[int]]
    totals: np.ndarray
    counts: np.ndarray

    def of(self, subject: str, metric: str, units: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        """[len(units), seeds] totals and counts of one figure."""
        place = np.ix_(self.units.get_indexer(units), np.array(self.figures[subject, metric]))
        return self.totals[place], self.counts[place]


def _tables(records: pd.DataFrame) -> dict[tuple[str, str], _Table]:
    """(benchmark, split), sorted → its table; units and figures are sorted too, so that draws see no row order."""
    codes, values = {}, {}
    for name in (*KEY, names.UNIT, names.SEED):
        codes[name], values[name] = pd.factorize(records[name], sort=True)
    column = (codes[names.SUBJECT] * len(values[names.METRIC]) + codes[names.METRIC]) * len(values[names.SEED])
    column = column + codes[names.SEED]
    group = codes[names.BENCHMARK] * len(values[names.SPLIT]) + codes[names.SPLIT]
    order = np.argsort(group, kind="stable")
    found, starts = np.unique(group[order], return_index=True)
    tables = {}
    for number, start, stop in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=False):
        rows = order[start:stop]
        units, unit_at = np.unique(codes[names.UNIT][rows], return_inverse=True)
        columns, column_at = np.unique(column[rows], return_inverse=True)
        figures: dict[tuple[str, str], list[int]] = {}
        for at, figure in enumerate((columns // len(values[names.SEED])).tolist()):
            subject, metric = divmod(figure, len(values[names.METRIC]))
            figures.setdefault((values[names.SUBJECT][subject], values[names.METRIC][metric]), []).append(at)
        totals, counts = (
            np.bincount(
                unit_at * len(columns) + column_at,
                weights=records[name].to_numpy(np.float64)[rows],
                minlength=len(units) * len(columns),
            ).reshape(len(units), len(columns))
            for name in (names.TOTAL, names.COUNT)
        )
        benchmark, split = divmod(number, len(values[names.SPLIT]))
        key = (values[names.BENCHMARK][benchmark], values[names.SPLIT][split])
        tables[key] = _Table(values[names.UNIT][units], figures, totals, counts)
    return tables


def _whole(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Figures that do not divide by unit: mean over folds, then over seeds, with what their own intervals give."""
    rows = []
    grouped: Any = records.groupby(KEY, observed=True, sort=True)  # the stubs do not know that the keys are strings
    for key, part in grouped:
        sums = part.groupby(names.SEED)[[names.TOTAL, names.COUNT]].sum()
        values = _ratio(sums[names.TOTAL], sums[names.COUNT])
        value = float(values.mean())
        low, high = _combined(part, value, disjoint=key[KEY.index(names.METRIC)] not in _OF_THE_WHOLE_LOG)
        rows.append(
            {
                **dict(zip(KEY, key, strict=True)),
                "value": value,
                "sd": _sd(values),
                "n": len(values),
                "low": low,
                "high": high,
                "units": 0,
            }
        )
    return rows


def _combined(part: pd.DataFrame, value: float, *, disjoint: bool) -> tuple[float, float]:
    """One interval from those of a figure's folds and seeds, NaN if one of them is unknown.

    A fold's seeds judge the same users, so their bounds are averaged. Folds judge disjoint users and err
    independently: the distances h of their bounds from their values combine to √(Σ h²) / K about ``value``, below and
    above apart. With one fold, or where all folds judge the same users, the averages stand.
    """
    numbers = part[[names.TOTAL, names.COUNT, names.LOW, names.HIGH]].astype(float)
    folds = numbers.groupby(part[names.FOLD]).mean()
    centre = _ratio(folds[names.TOTAL], folds[names.COUNT])
    limits = []
    for name, sign in ((names.LOW, -1), (names.HIGH, 1)):
        limit = float(numbers[name].mean(skipna=False))
        if disjoint and len(folds) > 1 and math.isfinite(limit):
            limit = value + sign * float(np.linalg.norm(folds[name] - centre)) / len(folds)
        limits.append(limit)
    return limits[0], limits[1]


def _bootstrap(totals: np.ndarray, counts: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """[D, c] the ratio in each draw of n units out of n; NaN where a draw has no count."""
    units = len(totals)
    block = max(1, _DRAWN_NUMBERS // units)
    parts = []
    for first in range(0, draws, block):
        weights = _weights(units, first, min(block, draws - first), seed)
        parts.append(_ratio(weights @ totals, weights @ counts))
    return np.concatenate(parts)


@lru_cache(maxsize=2)  # figures of one benchmark share their units
def _weights(units: int, first: int, count: int, seed: int) -> np.ndarray:
    """[count, n] float64: how often each unit is drawn in draws ``first`` and following."""
    rng = np.random.default_rng((seed, first))
    return rng.multinomial(units, np.full(units, 1 / units), size=count).astype(np.float64)


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
