"""Which days of a log teach a surrogate, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST = 2  # days of a window


@dataclass(frozen=True)
class Plan:
    """Which days teach the surrogate, which test it, and how far it looks.

    Attributes:
        asked: horizon that was asked for, in days.
        horizon: horizon that the log can show; below ``asked`` on a short log.
        signal_days: length of an entry's window.
        first_day, last_day: of the log.
        boundary: first day of the later cohort; outcomes of the earlier one end before it.
    """

    asked: int
    horizon: int
    signal_days: int
    first_day: int
    last_day: int
    boundary: int


def make_plan(*, first_day: int, last_day: int, test_day: int, horizon: int, signal_days: int) -> Plan | None:
    """Choose boundary and window: the test window's start or the log's middle, whichever allows the longer window.

    Either cohort needs its window, its outcome and a day of slack. A window has at least two days (one, if
    ``signal_days`` is one): within a single day nobody is active more often than another. Where no boundary leaves
    room, the horizon is cut to what half the log shows after a window of a quarter of that half.

    Args:
        test_day: first full day of the ranker's test window; windows must fit into it too.

    Returns:
        None where that is less than half the horizon, or the test window is shorter than a window: figures of so short
        a log would bear the name of LT-n and mean another thing.
    """
    days = last_day + 1 - first_day
    middle = first_day + days // 2
    longest, shortest = last_day + 1 - test_day, min(signal_days, _SHORTEST)

    def window(boundary: int) -> int:
        room = min(boundary - first_day, last_day + 1 - boundary) - horizon
        return min(signal_days, room // 2, longest)

    boundary = max((test_day, middle), key=window)
    if window(boundary) >= shortest:
        return Plan(horizon, horizon, window(boundary), first_day, last_day, boundary)
    half = days // 2
    width = min(signal_days, max(half // 4, shortest), longest)
    cut = min(horizon, half - width - 1)
    if width < shortest or 2 * cut < horizon:
        return None
    return Plan(horizon, cut, width, first_day, last_day, middle)
