"""The baseline of every surrogate: LT-n foretold from nothing but on how many of the last days a user was active.

Shapes: m events, E entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.pipeline import Pipeline

from recdistill.lifetime.observed import active_days_after
from recdistill.lifetime.surrogate import fit_ridge

LOOK_BACK = 7


def look_back(end: np.ndarray, *, first_day: int, fewest: int) -> int:
    """Days that the baseline counts: ``LOOK_BACK``, or as many as the log has before ``fewest`` of the entries' ends.

    Args:
        end: [E] int, the day after each entry's window; of at least ``fewest`` entries.
    """
    return min(LOOK_BACK, int(np.sort(end - first_day)[-fewest]))


def days_before(user: np.ndarray, day: np.ndarray, *, at_user: np.ndarray, end: np.ndarray, days: int) -> np.ndarray:
    """[E] float64 active days among the ``days`` days before ``end``, none of which may lie before 1970.

    Args:
        user, day: [m] int, the events.
        at_user, end: [E].
    """
    return active_days_after(user, day, at_user=at_user, at_day=end - days, days=days, last_day=int(end.max(initial=0)))


@dataclass(frozen=True)
class Naive:
    """Regression of LT-n on the active days alone, as strong as that of the surrogate.

    Attributes:
        horizon: n.
    """

    model: Pipeline
    horizon: int

    @classmethod
    def fit(cls, active_days: np.ndarray, outcome: np.ndarray, *, horizon: int) -> Naive:
        """Fit on [E] entries."""
        return cls(fit_ridge(active_days[:, None], outcome), horizon)

    def predict(self, active_days: np.ndarray) -> np.ndarray:
        """[E] predicted days, within [0, n]."""
        return np.clip(self.model.predict(active_days[:, None]), 0, self.horizon)
