"""Next-return time: how long users stay away, with those who had not come back when the log ended.

Shapes: q visits (a user on a day with any event).

RLUR (Cai et al., arXiv 2302.01724) makes the time until a user's next session its objective. In a log the last wait of
every user is *censored*: it is known only to be longer than the days that were left. Leaving those waits out would
flatter every log; the Kaplan-Meier estimate of P(wait > t) uses them. Its mean has no end, so it is restricted: the
expected days away, those beyond ``within`` counted as ``within`` (Royston and Parmar, BMC Med. Res. Methodol. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import CensoredData, ecdf


@dataclass(frozen=True)
class Waits:
    """Days from each visit to the user's next one.

    Attributes:
        user: [q] int.
        day: [q] int, of the visit.
        days: [q] int64 ≥ 1, until the next visit, or until the log's end where there is none.
        returned: [q] bool, false where the wait is censored.
    """

    user: np.ndarray
    day: np.ndarray
    days: np.ndarray
    returned: np.ndarray

    def take(self, rows: np.ndarray) -> Waits:
        return Waits(self.user[rows], self.day[rows], self.days[rows], self.returned[rows])


def find_waits(user: np.ndarray, day: np.ndarray, *, last_day: int) -> Waits:
    """The waits after all visits but those on the log's last day, after which nothing is seen.

    Args:
        user, day: [m] int, the events.
        last_day: last day of the log.
    """
    stride = np.int64(last_day) + 1
    visits = np.unique(user * stride + day)
    of, at = visits // stride, visits % stride
    returned = np.zeros(len(visits), dtype=bool)
    returned[:-1] = of[1:] == of[:-1]
    until = np.full(len(visits), last_day, dtype=np.int64)
    until[:-1][returned[:-1]] = at[1:][returned[:-1]]
    waits = Waits(of, at, until - at, returned)
    return waits.take(np.flatnonzero(waits.days > 0))


def away(waits: Waits, *, days: int) -> np.ndarray:
    """[days] Kaplan-Meier estimate of P(wait > t) for t = 0 … days − 1.

    Beyond the longest wait seen it is 0 if everybody had come back by then, and else unknown, NaN.
    """
    if not len(waits.days):
        return np.full(days, np.nan)
    data = CensoredData(
        uncensored=waits.days[waits.returned].astype(np.float64),
        right=waits.days[~waits.returned].astype(np.float64),
    )
    at = np.arange(days, dtype=np.float64)
    longest, still_away = waits.days.max(), ecdf(data).sf.evaluate
    return np.where((at <= longest) | (still_away(longest) == 0), still_away(at), np.nan)


def mean_days_away(waits: Waits, *, within: int) -> float:
    """Restricted mean return time: E[min(wait, within)] = Σ P(wait > t) over t below ``within``, in days.

    NaN where the log is too short to see a wait of ``within`` − 1 days and somebody had not come back when it ended.
    """
    return float(away(waits, days=within).sum())
