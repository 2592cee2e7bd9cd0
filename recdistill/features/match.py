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
from recdistill.features.past import Past
from recdistill.features.space import Space

_DAY = 86_400_000_000  # microseconds


class MatchFeatures:
    """How near a candidate is to its user's last positives that lie strictly before it.

    What the columns are, :mod:`recdistill.features.match_module` says; what counts as history, and in which order,
    :class:`recdistill.features.past.Past`. History of equal time is ordered by the item's row.

    Memory: 56 bytes a history row (105 while they are sorted), 100 + 4 F bytes an event asked for, and ``block`` bytes
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
        self._past = Past(
            present=module.present, user=user, item=item, time=time, ties=item, users=users, last=module.last
        )
        self._item, self._time = item[self._past.order], time[self._past.order]
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
        vector = 12 * self._module.vectors.shape[1]
        for part in self._past.blocks(
            user=user,
            item=item,
            time=time,
            block=self._block,
            row_bytes=vector,
            event_bytes=vector + 40 * (self._module.interests + 1),
            pair_bytes=80,
        ):
            age = (part.of(time, absent=0)[:, :, None] - self._time[part.rows][:, None, :]) / _DAY
            with torch.inference_mode():
                values = self._module.compare(
                    torch.from_numpy(self._item[part.rows].astype(np.int64)),
                    torch.from_numpy(age),
                    torch.from_numpy(part.of(item, absent=-1).astype(np.int64)),
                    torch.from_numpy(part.compared),
                )
            part.put(values.numpy(), result)
        return result
