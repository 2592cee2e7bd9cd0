"""Metric records → figures with intervals, and paired differences between subjects.

A decomposable figure is Σ total / Σ count over its units (pooled over a seed's folds), then the mean over seeds. Its
interval is a percentile bootstrap over units (``by_unit``), whichever seeds ask them. A figure that does not decompose
brings an interval for each seed and fold: they are averaged over seeds and combined over folds as independent errors
(``whole``).

Shapes: n units, c columns (subject, metric, seed), D draws.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from recdistill.contracts import names
from recdistill.evaluation.by_unit import KEY, bootstrap, interval, paired, ratio, tables
from recdistill.evaluation.whole import spread, whole


def summarise(records: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per (subject, benchmark, split, metric).

    Memory: the records, and 8·(10 million + 2·n·c) bytes for one benchmark and split.

    Args:
        records: rows of ``metric_records`` of any number of seeds and folds.
        draws: bootstrap draws D.
        seed: of the bootstrap.

    Returns:
        columns of the key, ``value`` (mean over seeds), ``sd`` over seeds (0 when there is one; where each
        seed has a fold of its own, folds differ in it too), ``n`` seeds,
        ``low``, ``high`` (95 %, NaN where unknown) and ``units``; sorted by key.
    """
    by_unit = records[names.UNIT].notna()
    rows = whole(records[~by_unit])
    for (benchmark, split), table in tables(records[by_unit]).items():
        values = ratio(table.totals.sum(axis=0), table.counts.sum(axis=0))
        drawn = bootstrap(table.totals, table.counts, draws=draws, seed=seed)
        for (subject, metric), columns in table.figures.items():
            low, high = interval(drawn[:, columns].mean(axis=1))
            rows.append(
                {
                    names.SUBJECT: subject,
                    names.BENCHMARK: benchmark,
                    names.SPLIT: split,
                    names.METRIC: metric,
                    "value": float(values[columns].mean()),
                    "sd": spread(values[columns]),
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
        sides.append(tables(of[(of[names.SUBJECT] == subject) & of[names.UNIT].notna()]))
    rows = []
    for key in sorted(set(sides[0]) & set(sides[1])):
        first, second = sides[0][key], sides[1][key]
        common = first.units.intersection(second.units)
        for _, metric in first.figures:
            if (subject_b, metric) not in second.figures:
                continue
            pair = paired(
                first.figure(subject_a, metric, common),
                second.figure(subject_b, metric, common),
                of_one_run=other is None,
            )
            if pair is None:
                continue
            a, b = (side.value() for side in pair)
            drawn = [side.drawn(draws=draws, seed=seed) for side in pair]
            low, high = interval(drawn[0] - drawn[1])
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
                    "units": len(pair[0].counts),
                }
            )
    header = [*KEY[1:], "a", "b", "difference", "low", "high", "relative", "units"]
    return pd.DataFrame(rows, columns=header)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
