"""AUC, GAUC, log loss and calibration of rankers, resampled by user.

Shapes: n rows, U users, S scorers, R draws.

A user's rows depend on each other, so a draw of the bootstrap takes whole users (with replacement); all scorers see
the same draws, which makes the intervals of their differences paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from recdistill.lifetime.intervals import user_draws

# Standard errors that lie between no difference and one that a two-sided test at 5 % sees four times in five.
SEEN_AT_80 = float(norm.ppf(0.975) + norm.ppf(0.8))
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Sorted:
    """Rows in the order of one scorer, so that areas under many weights cost one sorting.

    Attributes:
        order: [n] int64 rows from the lowest score to the highest.
        positive: [n] bool labels in that order.
        ties: two [P] int64: for each positive in that order, where the rows of its score begin and end.
    """

    order: np.ndarray
    positive: np.ndarray
    ties: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, label: np.ndarray, score: np.ndarray) -> Sorted:
        """Of [n] bool and [n] scores."""
        order = np.argsort(score, kind="stable")
        positive, ordered = label[order], score[order]
        own = ordered[positive]
        return cls(
            order,
            positive,
            (np.searchsorted(ordered, own, side="left"), np.searchsorted(ordered, own, side="right")),
        )

    def auc(self, weight: np.ndarray) -> np.ndarray:
        """Chance that a positive row scores above a negative one, ties counting half.

        Args:
            weight: [..., n] row weights (one area for each leading index).

        Returns:
            [...] float64; NaN where the weighted rows lack a class.
        """
        weight = weight[..., self.order]
        negatives = np.zeros((*weight.shape[:-1], len(self.order) + 1))
        np.cumsum(np.where(self.positive, 0, weight), axis=-1, out=negatives[..., 1:])
        below = negatives[..., self.ties[0]] + negatives[..., self.ties[1]]
        own = weight[..., self.positive]
        area = 0.5 * (own * below).sum(axis=-1)
        total = own.sum(axis=-1) * negatives[..., -1]
        return np.divide(area, total, out=np.full(area.shape, np.nan), where=total > 0)


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Chance that a positive row scores above a negative one, ties counting half.

    Args:
        label: [n] bool.
        score: [n].
        weight: [..., n] row weights (one area for each leading index), None: all 1.

    Returns:
        [...] float64; NaN where the weighted rows lack a class.
    """
    return Sorted.of(label, score).auc(np.ones(len(label)) if weight is None else weight)


def user_auc(user: np.ndarray, label: np.ndarray, score: np.ndarray, *, users: int) -> tuple[np.ndarray, np.ndarray]:
    """AUC within each user.

    Returns:
        [U] float64, NaN for a user without both classes, and [U] int64 rows of each user.
    """
    order = np.lexsort((score, user))
    sorted_user, sorted_score = user[order].astype(np.int64), score[order]
    # A row's rank among its user's rows is its place less the user's first place; ties share their mean rank.
    new = np.concatenate([[True], (sorted_user[1:] != sorted_user[:-1]) | (sorted_score[1:] != sorted_score[:-1])])
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(order)))
    place = np.repeat(first + (size + 1) / 2, size)
    rows = np.bincount(user, minlength=users)
    begin = np.concatenate([[0], np.cumsum(rows)[:-1]])
    rank = place - begin[sorted_user]
    positive = label[order]
    positives = np.bincount(user, weights=label, minlength=users)
    rank_sum = np.bincount(sorted_user[positive], weights=rank[positive], minlength=users)
    pairs = positives * (rows - positives)
    area = np.divide(rank_sum - positives * (positives + 1) / 2, pairs, out=np.full(users, np.nan), where=pairs > 0)
    return area, rows


def log_loss(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """[n] −log likelihood of each row's label under its logit."""
    return np.logaddexp(0.0, np.where(label, -logit, logit))


@dataclass(frozen=True)
class Decomposable:
    """A metric that is a ratio of sums over users: value = Σ total / Σ count."""

    total: np.ndarray  # [U] float64
    count: np.ndarray  # [U] float64, zero for a user who does not take part

    def value(self) -> float:
        return float(self.total.sum() / self.count.sum()) if self.count.sum() > 0 else np.nan


def gauc(user: np.ndarray, label: np.ndarray, score: np.ndarray, *, users: int, by_rows: bool) -> Decomposable:
    """Mean of the users' own AUCs (Zhu et al., arXiv 1706.06978, section 6.3), weighted by rows or all alike.

    Users without both classes are left out.
    """
    area, rows = user_auc(user, label, score, users=users)
    count = np.where(np.isnan(area), 0.0, rows if by_rows else 1.0)
    return Decomposable(np.nan_to_num(area) * count, count)


def mean_log_loss(user: np.ndarray, label: np.ndarray, logit: np.ndarray, *, users: int) -> Decomposable:
    """Log loss as a mean over rows."""
    total = np.bincount(user, weights=log_loss(label, logit), minlength=users)
    return Decomposable(total, np.bincount(user, minlength=users).astype(np.float64))


def calibration(user: np.ndarray, label: np.ndarray, logit: np.ndarray, *, users: int) -> Decomposable:
    """Predicted by observed positives, Σ probability / Σ label; 1 is calibrated in the large."""
    total = np.bincount(user, weights=probability(logit), minlength=users)
    return Decomposable(total, np.bincount(user, weights=label, minlength=users))


def probability(logit: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logit))


def expected_calibration_error(label: np.ndarray, logit: np.ndarray, *, bins: int = 20) -> float:
    """Mean distance of predicted and observed rates over bins of equal numbers of rows (Naeini et al., AAAI 2015).

    Equal scores may be parted by a bin's edge, in the rows' order. NaN without rows.

    Args:
        bins: at most; fewer where there are fewer rows.
    """
    if not len(label):
        return float("nan")
    order = np.argsort(logit, kind="stable")
    gap = probability(logit)[order] - label[order]
    edges = np.linspace(0, len(label), min(bins, len(label)) + 1).astype(np.int64)
    return float(np.abs(np.add.reduceat(gap, edges[:-1])).sum() / len(label))


def bootstrap(
    user: np.ndarray,
    label: np.ndarray,
    scores: np.ndarray,
    *,
    parts: Sequence[Mapping[str, Decomposable]],
    draws: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Resample users ``draws`` times and measure every scorer on each draw.

    Memory: 80 MiB, plus 100 · n bytes; time O(S · R · n).

    Args:
        user: [n] int.
        scores: [S, n].
        parts: of each scorer the decomposable metrics by name, all over the same users.

    Returns:
        ``auc`` and each metric of ``parts`` → [S, R] float64.
    """
    users = len(next(iter(parts[0].values())).total)
    taking_part = np.flatnonzero(np.bincount(user, minlength=users))
    values = {name: np.empty((len(scores), draws)) for name in ("auc", *parts[0])}
    block = max(_BLOCK // max(len(user), users), 1)
    for at, score in enumerate(scores):  # the draws are made anew for each, which is cheaper than to sort anew
        ordered = Sorted.of(label, score)
        for start, weight in user_draws(len(taking_part), draws=draws, block=block, seed=seed):
            full = np.zeros((len(weight), users), dtype=np.float32)
            full[:, taking_part] = weight
            stop = start + len(weight)
            values["auc"][at, start:stop] = ordered.auc(full[:, user])
            for name, part in parts[at].items():
                count = full @ part.count
                values[name][at, start:stop] = np.divide(
                    full @ part.total, count, out=np.full(len(weight), np.nan), where=count > 0
                )
    return values


def resample_ratio(total: np.ndarray, count: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """[R] bootstrap values of Σ total / Σ count over the units (users) where either is not zero; NaN for 0 / 0."""
    members = np.flatnonzero((count != 0) | (total != 0))
    above, below = total[members], count[members]
    values = np.full(draws, np.nan)
    for start, weight in user_draws(len(members), draws=draws, block=max(_BLOCK // max(len(members), 1), 1), seed=seed):
        bottom = weight @ below
        np.divide(weight @ above, bottom, out=values[start : start + len(weight)], where=bottom > 0)
    return values
