"""Intervals by resampling users: a user's rows depend on each other, so a draw takes whole users.

Any figure of some rows is asked draw by draw; what can be told of users counted several times over, as
``recdistill.rankers.metrics`` tells AUC, is told of many draws at once there, at a fraction of the time.

Shapes: n rows, U users, R draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def known(value: float) -> float | None:
    """The value, None if it is not finite: what JSON can hold."""
    return float(value) if np.isfinite(value) else None


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Middle 95 % of bootstrap values; None if a draw was undefined too often (above one in ten) to say."""
    finite = values[np.isfinite(values)]
    if len(finite) < 0.9 * len(values):
        return None
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def user_draws(users: int, *, draws: int, block: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first draw, [r, U] float32 how often each user is drawn), ``block`` draws at a time, whose numbers it leaves."""
    for start in range(0, draws, block):
        stop = min(start + block, draws)
        weight = np.empty((stop - start, users), dtype=np.float32)
        for at in range(start, stop):
            rng = np.random.default_rng((seed, at))
            weight[at - start] = np.bincount(rng.integers(users, size=users), minlength=users)
        yield start, weight


def by_user(
    statistic: Callable[[np.ndarray], float], user: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float] | None:
    """95 % percentile bootstrap over users (Efron and Tibshirani, 1993, chapter 13).

    Args:
        statistic: the figure of some rows ([·] int64 row numbers, repeated where a user is drawn again).
        user: [n] int.
        draws: of as many users as there are, with replacement; the same for the same seed and users, so that
            intervals of differences are paired if the statistic is a difference.

    Returns:
        None if the figure was undefined in more than one draw of ten.
    """
    order = np.argsort(user, kind="stable")
    _, first, size = np.unique(user[order], return_index=True, return_counts=True)
    rng = np.random.default_rng(seed)
    values = np.empty(draws)
    for at in range(draws):
        drawn = rng.integers(len(first), size=len(first))
        lengths = size[drawn]
        ahead = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) - np.repeat(ahead - first[drawn], lengths)
        values[at] = statistic(order[rows])
    return interval(values)
