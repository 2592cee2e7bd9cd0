"""DeLong's test of paired areas under the ROC curve, for independent rows and for rows of the same users.

Shapes: n rows, P positives, N negatives, S scorers, U users.

DeLong, DeLong and Clarke-Pearson (1988) give the covariance of several AUCs on the same rows; mid-ranks find it in
O(n log n) (Sun and Xu, 2014). It takes rows for independent. A user's rows are not, and then the test is too sure of
itself: Obuchowski (1997) adds up each user's part first, which is the same where every row is a user of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from recdistill.rankers.metrics import SEEN_AT_80

TINY = 1e-12  # differences of AUCs below it, and variances below that share of their terms, are rounding


@dataclass(frozen=True)
class Test:
    """Of a difference of areas.

    Attributes:
        difference: the first less the second.
        error: its standard error.
        p: two-sided, of no difference.
        detectable: smallest true difference that so many rows or users show at 80 % power.
    """

    difference: float
    error: float
    p: float
    detectable: float


@dataclass(frozen=True)
class Areas:
    """AUCs on the same rows.

    Attributes:
        value: [S] float64.
        covariance: [S, S] float64.
    """

    value: np.ndarray
    covariance: np.ndarray

    def test(self, weight: np.ndarray) -> Test:
        """Test that Σ weight · AUC is zero, e.g. weights 1 and −1 of two scorers, or 1/K and −1/K of K seeds of each.

        Args:
            weight: [S], summing to zero.
        """
        difference = float(weight @ self.value)
        variance = float(weight @ self.covariance @ weight)
        if variance < TINY * float(np.abs(weight) @ np.abs(self.covariance) @ np.abs(weight)):  # equal scores
            return Test(difference, 0.0, float(abs(difference) < TINY), 0.0)
        error = float(np.sqrt(variance))
        p = 2 * float(norm.sf(abs(difference) / error))
        return Test(difference, error, p, SEEN_AT_80 * error)


def delong(label: np.ndarray, scores: np.ndarray, *, user: np.ndarray | None = None) -> Areas | None:
    """AUCs of several scorers and their covariance; ties of a positive and a negative count half.

    Args:
        label: [n] bool.
        scores: [S, n].
        user: [n] int, whose rows each are; None: rows are independent.

    Returns:
        None with fewer than two positives or negatives, or fewer than two users with either.
    """
    positive, negative = np.flatnonzero(label), np.flatnonzero(~label)
    unit = np.arange(len(label)) if user is None else np.unique(user, return_inverse=True)[1]
    units = int(unit.max(initial=-1)) + 1
    count = [np.bincount(unit[rows], minlength=units) for rows in (positive, negative)]  # [U] each
    taking_part = [np.count_nonzero(of) for of in count]
    if min(taking_part) < 2:
        return None
    total = (len(positive), len(negative))
    value = np.empty(len(scores))
    share = [np.empty((len(scores), units)) for _ in total]
    for at, score in enumerate(scores):
        ranks = rankdata(score)
        # A row's placement: the share of the other class that it is on the right side of.
        above = (ranks[positive] - rankdata(score[positive])) / total[1]
        below = 1 - (ranks[negative] - rankdata(score[negative])) / total[0]
        value[at] = above.mean()
        for part, rows, of, placement in zip(share, (positive, negative), count, (above, below), strict=True):
            part[at] = np.bincount(unit[rows], weights=placement, minlength=units) - of * value[at]
    covariance = sum(
        part @ part.T * units_of / (units_of - 1) / size**2
        for part, units_of, size in zip(share, taking_part, total, strict=True)
    )
    cross = share[0] @ share[1].T * units / (units - 1) / (total[0] * total[1])
    return Areas(value, np.asarray(covariance + cross + cross.T))
