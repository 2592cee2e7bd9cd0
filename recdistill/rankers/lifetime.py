"""Lifetime: on how many days a user comes back, and what predicts it.

Shapes: m events, E entries.

LT-n observed of a user at a day is the number of days among the next n on which the user is active. An *entry* is a
user with a window of ``signal_days`` days in which the user was active; its outcome is LT-n right after the window.
The *surrogate index* (Athey, Chetty, Imbens, Kang, NBER w26463; used for long-term satisfaction in arXiv 2311.11922)
is a regression of the outcome on the signals of the window, fitted on an earlier cohort of entries whose outcomes end
before the later cohort begins, and judged on the later one. Days are UTC calendar days numbered from 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from recdistill.rankers.signals import Signals

DAY = 86_400_000_000  # microseconds
_ALPHAS = np.logspace(-2, 4, 13)


def active_days_after(
    user: np.ndarray, day: np.ndarray, *, at_user: np.ndarray, at_day: np.ndarray, days: int, last_day: int
) -> np.ndarray:
    """LT-n observed.

    Args:
        user, day: [m] int, the events.
        at_user, at_day: [E]; days ``at_day … at_day + days − 1`` are counted.
        last_day: last day of the log.

    Returns:
        [E] float64; NaN where the counted days run past the log's end (censored).
    """
    stride = np.int64(max(int(day.max(initial=0)), int(at_day.max(initial=0)) + days) + 1)
    active = np.unique(user * stride + day)
    key = at_user * stride + at_day
    count = np.searchsorted(active, key + days) - np.searchsorted(active, key)
    return np.where(at_day + days - 1 <= last_day, count, np.nan)


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

    Either cohort needs its window, its outcome and a day of slack. Where no boundary leaves room, the horizon is cut
    to what half the log shows.

    Args:
        test_day: first full day of the ranker's test window; windows must fit into it too.

    Returns:
        None if the log spans fewer than six days.
    """
    days = last_day + 1 - first_day
    middle = first_day + days // 2
    longest = max(last_day + 1 - test_day, 1)

    def window(boundary: int) -> int:
        room = min(boundary - first_day, last_day + 1 - boundary) - horizon
        return min(signal_days, room // 2, longest)

    boundary = max((test_day, middle), key=window)
    if window(boundary) >= 1:
        return Plan(horizon, horizon, window(boundary), first_day, last_day, boundary)
    if days < 6:
        return None
    return Plan(horizon, min(horizon, days // 2 - 2), 1, first_day, last_day, middle)


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


@dataclass(frozen=True)
class Surrogate:
    """Ridge regression of LT-n on an entry's signals; ``naive`` reads the active days alone.

    Attributes:
        horizon: n; predictions are kept within [0, n].
    """

    model: Pipeline
    naive: Pipeline
    horizon: int

    @classmethod
    def fit(cls, signals: Signals, outcome: np.ndarray, *, horizon: int) -> Surrogate:
        """Fit both on entries with an observed outcome; the penalty is chosen by leave-one-out."""
        model = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS)).fit(signals.matrix(), outcome)
        naive = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS)).fit(signals.matrix()[:, :1], outcome)
        return cls(model, naive, horizon)

    def predict(self, signals: Signals) -> np.ndarray:
        """[E] predicted days."""
        return np.clip(self.model.predict(signals.matrix()), 0, self.horizon)

    def predict_naive(self, signals: Signals) -> np.ndarray:
        """[E] days predicted from the number of active days in the window."""
        return np.clip(self.naive.predict(signals.matrix()[:, :1]), 0, self.horizon)


def r_squared(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """1 − squared error / variance about the outcomes' own mean; NaN if they do not vary."""
    spread = ((outcome - outcome.mean()) ** 2).sum()
    return float(1 - ((outcome - predicted) ** 2).sum() / spread) if spread > 0 else np.nan


def rank_correlation(outcome: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's ρ; 0 for a prediction that does not vary."""
    if np.ptp(predicted) == 0 or np.ptp(outcome) == 0:
        return 0.0
    return float(spearmanr(outcome, predicted).statistic)
