"""Reaction features: whether the user was pleased by what is like a candidate, and displeased by what is not.

Match features know what the user liked. Of what was met and *not* liked they know nothing, although a log with its own
negatives tells: a user who met twenty comedies and liked two is near many comedies. Here every past event counts, by
how it turned out.

Shapes: n rows (user, candidate, time), m events, r rows and h events of one user, K temperatures.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.log import Log
from recdistill.features.config import ReactionConfig
from recdistill.features.space import Space
from recdistill.features.timeline import Timeline

_PRIOR_COSINE = 0.5
_BLOCK = 1 << 22


class ReactionFeatures:
    """Kernel regression of a user's past reactions at the candidate's place in the space (Nadaraya 1964, Watson 1964).

    A row's column for temperature t is ``Σ w (y − ȳ) / (Σ w + w₀)`` over the user's last events strictly before it,
    with y 1 for an event that pleased and 0 for another, ȳ its mean over those events, w = exp((cosine − 1) / t), and
    w₀ the weight of an event at cosine 0.5: little evidence gives little. What the user does on average is taken out,
    so that vectors without meaning give numbers without meaning. NaN where nothing can be compared.

    Memory: 24 bytes an event, plus 16 · max(4 Mi, last) bytes while computing.

    Args:
        space: the embedding space.
        user, item, time: [m] events (row numbers; microseconds); those on items without a vector are dropped.
        pleased: [m] bool.
        users: how many users there are.
    """

    def __init__(
        self,
        space: Space,
        *,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        pleased: np.ndarray,
        users: int,
        last: int,
        temperatures: tuple[float, ...],
    ) -> None:
        kept = np.flatnonzero(space.present[item])
        self._timeline = Timeline(group=user[kept], time=time[kept], groups=users)
        order = kept[self._timeline.order]
        self._item, self._pleased = item[order], pleased[order].astype(np.float32)
        self._space, self._last, self._temperatures = space, last, temperatures

    @classmethod
    def from_log(cls, space: Space, history: Log, config: ReactionConfig, *, min_behaviours: int) -> ReactionFeatures:
        """Over all events of a log; one with at least so many positive behaviours pleased."""
        return cls(
            space,
            user=history.user,
            item=history.item,
            time=history.time,
            pleased=history.positive(min_behaviours),
            users=len(history.user_ids),
            last=config.last,
            temperatures=config.temperatures,
        )

    def __call__(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """[n, K] float32."""
        result = np.full((len(user), len(self._temperatures)), np.nan, dtype=np.float32)
        begin, end = self._timeline.before(user, time)
        begin = np.maximum(begin, end - self._last)
        known = np.flatnonzero((end > begin) & self._space.present[item])
        # A user's rows side by side, old to new: neighbours share most of their history.
        known = known[np.lexsort((end[known], user[known]))]
        for rows in np.split(known, np.flatnonzero(np.diff(user[known])) + 1):
            step = max(_BLOCK // max(int(end[rows].max(initial=0) - begin[rows].min(initial=0)), 1), 1)
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                result[part] = self._of_user(item[part], begin[part], end[part])
        return result

    def _of_user(self, item: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        events = np.arange(begin.min(), end.max())
        vectors, pleased = self._space.vectors, self._pleased[events]
        cosine = vectors[item] @ vectors[self._item[events]].T  # [r, h]
        inside = (events >= begin[:, None]) & (events < end[:, None])
        mean = (inside @ pleased) / (end - begin)
        columns = []
        for temperature in self._temperatures:
            weight = np.exp((cosine - 1) / temperature) * inside
            above = weight @ pleased - weight.sum(axis=1) * mean
            columns.append(above / (weight.sum(axis=1) + np.exp((_PRIOR_COSINE - 1) / temperature)))
        return np.stack(columns, axis=1).astype(np.float32)
