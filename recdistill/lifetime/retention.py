"""Retention: the share of users who are active on each day that follows.

Shapes: m events, E entries (a user with a day).
"""

from __future__ import annotations

import numpy as np


def retention_curve(
    user: np.ndarray, day: np.ndarray, *, at_user: np.ndarray, at_day: np.ndarray, days: int, last_day: int
) -> np.ndarray:
    """Share of entries active on day ``at_day + d``, d = 0 … days − 1, of those for whom that day is in the log.

    Args:
        user, day: [m] int, the events.
        at_user, at_day: [E].
        last_day: last day of the log; later days are censored and leave the share's denominator.

    Returns:
        [days] float64, NaN where no entry's day is in the log.
    """
    stride = np.int64(max(int(day.max(initial=0)), int(at_day.max(initial=0)) + days) + 1)
    active = np.unique(user * stride + day)
    curve = np.full(days, np.nan)
    for after in range(days):
        seen = at_day + after <= last_day
        if seen.any():
            curve[after] = np.isin(at_user[seen] * stride + at_day[seen] + after, active).mean()
    return curve


def retention_area(curve: np.ndarray) -> float:
    """Area under the curve, in days: the mean LT-n, entries of whom only the first days are seen included."""
    return float(curve.sum())
