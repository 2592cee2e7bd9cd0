"""What a log shows of return: active days after a day, and who was active in which window.

Shapes: m events, E entries (a user with a window of days, or with a day).
"""

from __future__ import annotations

import numpy as np

DAY = 86_400_000_000  # microseconds


def active_days_after(
    user: np.ndarray, day: np.ndarray, *, at_user: np.ndarray, at_day: np.ndarray, days: int, last_day: int
) -> np.ndarray:
    """LT-n observed.

    Args:
        user, day: [m] int, the events.
        at_user, at_day: [E]; days ``at_day … at_day + days − 1`` are counted.
        days: n.
        last_day: last day of the log.

    Returns:
        [E] float64; NaN where the counted days run past the log's end (censored).
    """
    stride = np.int64(max(int(day.max(initial=0)), int(at_day.max(initial=0)) + days) + 1)
    active = np.unique(user * stride + day)
    key = at_user * stride + at_day
    count = np.searchsorted(active, key + days) - np.searchsorted(active, key)
    return np.where(at_day + days - 1 <= last_day, count, np.nan)


def find_entries(
    user: np.ndarray, day: np.ndarray, *, start: int, stop: int, signal_days: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut ``[start, stop)`` into whole windows and find who was active in which.

    Returns:
        entry: [m] int64, the entry each event belongs to, -1 for none; and [E] user and [E] end day of the entries.
    """
    windows = max((stop - start) // signal_days, 0)
    window = (day - start) // signal_days
    inside = (day >= start) & (window < windows)
    entry = np.full(len(user), -1, dtype=np.int64)
    keys, entry[inside] = np.unique(user[inside] * np.int64(max(windows, 1)) + window[inside], return_inverse=True)
    return entry, keys // max(windows, 1), start + (keys % max(windows, 1) + 1) * signal_days
