"""Match features of many events at once, over a history in memory.

Shapes: n events (user, candidate, time), m history rows, I items, d width, K interests, F columns.
"""

from __future__ import annotations

import numpy as np
import torch

from recdistill.contracts.log import Log
from recdistill.features.config import MatchConfig
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_module import MatchModule
from recdistill.features.match_tiles import Tiles
from recdistill.features.space import Space
from recdistill.features.timeline import Timeline

_DAY = 86_400_000_000  # microseconds


class MatchFeatures:
    """How near a candidate is to its user's last positives that lie strictly before it.

    What the columns are, :mod:`recdistill.features.match_module` says. An event of equal time does not count as
    history (logs rated in one sitting would leak the label otherwise). History of equal time is ordered by the item's
    row, for where ``last`` cuts through it: the order of a file would be another one in Spark.

    Memory: 56 bytes a history row (100 while they are sorted), 100 + 4 F bytes an event asked for, and ``block`` bytes
    while computing (or, where that is more, 16 events of one user).

    Args:
        module: the items.
        user, item, time: [m] the positives (row numbers; microseconds); those without a vector are dropped.
        users: how many users there are.
        block: bytes of the arrays that are computed at a time.
    """

    def __init__(
        self,
        module: MatchModule,
        *,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        users: int,
        block: int = 1 << 25,
    ) -> None:
        self._present = module.present
        kept = np.flatnonzero((item >= 0) & self._present[item])
        self._timeline = Timeline(group=user[kept], time=time[kept], groups=users, ties=item[kept])
        self._item = item[kept][self._timeline.order]
        self._time = time[kept][self._timeline.order]
        self._module = module
        self._block = block

    @classmethod
    def from_log(
        cls, space: Space, history: Log, config: MatchConfig, *, codes: np.ndarray | None = None, seed: int = 0
    ) -> MatchFeatures:
        """Over a log's positives, under the settings; users and items are numbered as the log numbers them.

        Args:
            space: of the log's items; interests are fitted on it.
            codes: [I, L] their semantic IDs (or numbers of the IDs' prefixes), -1 without one; None: no such columns.
            seed: of the interests.
        """
        module = MatchModule.of(space, MatchBasis.fit(space, config, seed=seed), codes)
        positive = history.positive(config.min_behaviours)
        return cls(
            module,
            user=history.user[positive],
            item=history.item[positive],
            time=history.time[positive],
            users=len(history.user_ids),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """[F] names of the columns."""
        return self._module.columns

    def __call__(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """[n, F] float32, columns as :attr:`columns`; user or item -1: one that is not known."""
        result = np.full((len(user), len(self.columns)), np.nan, dtype=np.float32)
        result[:, -1] = 0
        asked = np.flatnonzero((user >= 0) & (item >= 0) & self._present[item])
        begin, end = self._timeline.before(user[asked], time[asked])
        begin = np.maximum(begin, end - self._module.last)
        some = np.flatnonzero(end > begin)
        if not len(some):
            return result
        asked, begin, end = asked[some], begin[some], end[some]
        stride = max(self._module.last // 2, 4)
        tiles = Tiles.of(user=user[asked], begin=begin, end=end, stride=stride)
        vector, pair = 12 * self._module.vectors.shape[1], 80
        event = vector + 40 * (self._module.interests + 1)
        for chosen in tiles.blocks(block=self._block, row_bytes=vector, event_bytes=event, pair_bytes=pair):
            rows, events = tiles.slots(chosen)
            real = events >= 0
            of = asked[events]
            values = self._compare(
                rows,
                candidates=np.where(real, item[of], -1),
                time=time[of],
                begin=np.where(real, begin[events], 0),
                end=np.where(real, end[events], 0),
            )
            result[of[real]] = values[real]
        return result

    def _compare(
        self, rows: np.ndarray, *, candidates: np.ndarray, time: np.ndarray, begin: np.ndarray, end: np.ndarray
    ) -> np.ndarray:
        """[B, C, F] of candidates [B, C], each with the history rows from begin to end among ``rows`` [B, H]."""
        between = rows[:, None, :]
        compared = (between >= begin[:, :, None]) & (between < end[:, :, None])
        rows = np.minimum(rows, len(self._item) - 1)
        age = (time[:, :, None] - self._time[rows][:, None, :]) / _DAY
        with torch.inference_mode():
            values = self._module.compare(
                torch.from_numpy(self._item[rows].astype(np.int64)),
                torch.from_numpy(age),
                torch.from_numpy(candidates.astype(np.int64)),
                torch.from_numpy(compared),
            )
        return values.numpy()
