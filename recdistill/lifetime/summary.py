"""What a log shows of return, in a few figures: retention and time away."""

from __future__ import annotations

from typing import Any

import numpy as np

from recdistill.lifetime.intervals import known
from recdistill.lifetime.retention import retention_area, retention_curve
from recdistill.lifetime.returns import find_waits, mean_days_away

HORIZONS = (7, 30)


def observed_return(user: np.ndarray, day: np.ndarray, *, last_day: int) -> dict[str, Any]:
    """Retention after each user's first day in the log, its area, and the restricted mean days away.

    Args:
        user, day: [m] int, the events; ``user`` not below 0.

    Returns:
        for each n of ``HORIZONS`` figures in days; None where the log is too short.
    """
    users, row = np.unique(user, return_inverse=True)
    first = np.full(len(users), last_day)
    np.minimum.at(first, row, day)
    curve = retention_curve(
        row, day, at_user=np.arange(len(users)), at_day=first + 1, days=max(HORIZONS), last_day=last_day
    )
    waits = find_waits(row, day, last_day=last_day)
    figures: dict[str, Any] = {"users": len(users), "visits": len(waits.days), "censored": int((~waits.returned).sum())}
    for days in HORIZONS:
        figures[f"retention_day_{days}"] = known(curve[days - 1])
        figures[f"retention_area_{days}"] = known(retention_area(curve[:days]))
        figures[f"mean_days_away_{days}"] = known(mean_days_away(waits, within=days))
    return figures
