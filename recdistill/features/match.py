"""Match features: how similar a candidate is to what its user liked before.

Shapes: n events (user, candidate, time), m history rows, I items, d width, P (event, history) pairs of a block.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.log import Log
from recdistill.features.config import MatchConfig
from recdistill.features.space import Space
from recdistill.features.timeline import Timeline

COLUMNS = ("match_mean", "match_max", "match_topk", "match_decayed", "match_items")
_DAY = 86_400_000_000  # microseconds


class MatchFeatures:
    """Cosine of a candidate to its user's last positives that lie strictly before it.

    Columns of the result, in the order of ``COLUMNS``: mean, maximum, mean of the ``top_k`` largest, mean weighted
    by ``2^(-age / half life)``, and the number of history items compared. An event of equal time does not count as
    history (logs rated in one sitting would leak the label otherwise). Where nothing can be compared (no vector of
    the candidate, or an empty history) the similarities are NaN and the number is 0.

    Memory: the history (40 bytes a row), plus 8 · block bytes while computing, whatever n and the histories' length.

    Args:
        space: the embedding space.
        user, item, time: [m] the positives (row numbers; microseconds); items without a vector are dropped.
        users: how many users there are.
        last: newest history rows that are compared.
        block: float32 numbers gathered at a time; changes no result.
    """

    def __init__(
        self,
        space: Space,
        *,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        users: int,
        last: int,
        top_k: int,
        half_life_days: float,
        block: int = 1 << 23,
    ) -> None:
        kept = space.present[item]
        self._timeline = Timeline(group=user[kept], time=time[kept], groups=users)
        self._item = item[kept][self._timeline.order]
        self._time = time[kept][self._timeline.order]
        self._space = space
        self._last = last
        self._top_k = top_k
        self._half_life = half_life_days * _DAY
        self._block = block

    @classmethod
    def from_log(cls, space: Space, history: Log, config: MatchConfig) -> MatchFeatures:
        """Over a log's positives, under the settings; users and items are numbered as the log numbers them."""
        positive = history.positive(config.min_behaviours)
        return cls(
            space,
            user=history.user[positive],
            item=history.item[positive],
            time=history.time[positive],
            users=len(history.user_ids),
            last=config.last,
            top_k=config.top_k,
            half_life_days=config.half_life_days,
        )

    def __call__(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """[n, 5] float32, columns as ``COLUMNS``."""
        result = np.full((len(user), len(COLUMNS)), np.nan, dtype=np.float32)
        result[:, -1] = 0
        begin, end = self._timeline.before(user, time)
        begin = np.maximum(begin, end - self._last)
        known = np.flatnonzero((end > begin) & self._space.present[item])
        pairs = np.cumsum(end[known] - begin[known])
        step = max(self._block // self._space.vectors.shape[1], self._last)
        at = 0
        while at < len(known):
            done = pairs[at - 1] if at else 0
            stop = max(int(np.searchsorted(pairs, done + step, side="right")), at + 1)
            rows = known[at:stop]
            result[rows] = self._events(item[rows], begin[rows], end[rows])
            at = stop
        return result

    def _events(self, item: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        lengths = end - begin
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        event = np.repeat(np.arange(len(item)), lengths)
        history = np.arange(lengths.sum()) - np.repeat(starts - begin, lengths)  # [P]
        vectors = self._space.vectors
        similarity = np.einsum("pd,pd->p", vectors[item[event]], vectors[self._item[history]])
        newest = np.repeat(self._time[history[starts + lengths - 1]], lengths)
        # Ages count from the newest row: the weighted mean is the same, and the weights cannot all underflow.
        weight = np.exp2((self._time[history] - newest) / self._half_life)
        by_similarity = similarity[np.lexsort((-similarity, event))]
        rank = np.arange(len(event)) - np.repeat(starts, lengths)
        top = np.where(rank < self._top_k, by_similarity, 0)
        columns = (
            np.add.reduceat(similarity, starts, dtype=np.float64) / lengths,
            np.maximum.reduceat(similarity, starts),
            np.add.reduceat(top, starts, dtype=np.float64) / np.minimum(lengths, self._top_k),
            np.add.reduceat(similarity * weight, starts) / np.add.reduceat(weight, starts),
            lengths,
        )
        return np.stack(columns, axis=1).astype(np.float32)
