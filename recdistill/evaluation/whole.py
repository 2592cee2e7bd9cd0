"""Figures that do not divide by unit: their mean over seeds and folds, and what their own intervals give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.evaluation.by_unit import KEY, ratio

# Figures that every fold takes from all users' events, so that the folds' errors are not independent.
_OF_THE_WHOLE_LOG = frozenset(f"lt{days}_{figure}" for days in (7, 30) for figure in ("r2", "proxy", "proxy_delta"))


def whole(records: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a figure: the key, ``value``, ``sd``, ``n``, ``low``, ``high``, ``units`` (0).

    Args:
        records: rows of ``metric_records`` that have no unit.
    """
    rows = []
    grouped: Any = records.groupby(KEY, observed=True, sort=True)  # the stubs do not know that the keys are strings
    for key, part in grouped:
        sums = part.groupby(names.SEED)[[names.TOTAL, names.COUNT]].sum()
        values = ratio(sums[names.TOTAL], sums[names.COUNT])
        value = float(values.mean())
        low, high = _combined(part, value, disjoint=key[KEY.index(names.METRIC)] not in _OF_THE_WHOLE_LOG)
        rows.append(
            {
                **dict(zip(KEY, key, strict=True)),
                "value": value,
                "sd": spread(values),
                "n": len(values),
                "low": low,
                "high": high,
                "units": 0,
            }
        )
    return rows


def _combined(part: pd.DataFrame, value: float, *, disjoint: bool) -> tuple[float, float]:
    """One interval from those of a figure's folds and seeds, NaN if one of them is unknown.

    Each record has the weight w that it has in ``value``: its share of its seed, by the number of seeds. A fold's seeds
    judge the same users, so the distances h of their bounds from their values are added, Σ w·h. Folds judge disjoint
    users, in one seed or in several, and err independently: their sums combine to √(Σ (Σ w·h)²) about ``value``, below
    and above apart. With one fold, or where all folds judge the same users, all are added.
    """
    total, count, *bounds = (
        part[name].to_numpy(np.float64) for name in (names.TOTAL, names.COUNT, names.LOW, names.HIGH)
    )
    of_seed = part.groupby(names.SEED)[names.COUNT].transform("sum").to_numpy(np.float64)
    weight = count / of_seed / part[names.SEED].nunique()
    fold, folds = pd.factorize(part[names.FOLD])
    limits = []
    for bound, sign in zip(bounds, (-1, 1), strict=True):
        of_folds = np.bincount(fold, weights=weight * (bound - ratio(total, count)))
        independent = disjoint and len(folds) > 1
        limits.append(value + float(sign * np.linalg.norm(of_folds) if independent else of_folds.sum()))
    return limits[0], limits[1]


def spread(values: np.ndarray) -> float:
    """Standard deviation over seeds, 0 of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
