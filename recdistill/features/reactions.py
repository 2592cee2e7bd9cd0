"""Reactions of many events at once, over a history in memory.

Shapes: n rows (user, candidate, time), m events, d width, K temperatures.
"""

from __future__ import annotations

import numpy as np
import torch

from recdistill.contracts.log import Log
from recdistill.features.config import ReactionConfig
from recdistill.features.past import Past
from recdistill.features.reaction_module import ReactionModule
from recdistill.features.space import Space


class ReactionFeatures:
    """Whether the user was pleased by what is like a candidate, and displeased by what is not.

    What the columns are, :mod:`recdistill.features.reaction_module` says; what counts as history, and in which order,
    :class:`recdistill.features.past.Past`. History of equal time is ordered by the item's row, that of one item by
    whether it pleased.

    Memory: 60 bytes an event (105 while they are sorted), 80 + 4 K bytes a row asked for, and ``block`` bytes while
    computing (or, where that is more, 16 rows of one user).

    Args:
        module: the items.
        user, item, time: [m] events (row numbers; microseconds); those on items without a vector are dropped.
        pleased: [m] bool.
        users: how many users there are.
        block: bytes of the arrays that are computed at a time.
    """

    def __init__(
        self,
        module: ReactionModule,
        *,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        pleased: np.ndarray,
        users: int,
        block: int = 1 << 25,
    ) -> None:
        self._past = Past(
            present=module.known[:-1].numpy(),
            user=user,
            item=item,
            time=time,
            ties=2 * item.astype(np.int64) + pleased,
            users=users,
            last=module.last,
        )
        self._item, self._pleased = item[self._past.order], pleased[self._past.order]
        self._module = module
        self._block = block

    @classmethod
    def from_log(cls, space: Space, history: Log, config: ReactionConfig, *, min_behaviours: int) -> ReactionFeatures:
        """Over all events of a log; one with at least so many positive behaviours pleased."""
        return cls(
            ReactionModule.of(space, config),
            user=history.user,
            item=history.item,
            time=history.time,
            pleased=history.positive(min_behaviours),
            users=len(history.user_ids),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """[K] names of the columns."""
        return self._module.columns

    def __call__(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """[n, K] float32, columns as :attr:`columns`; user or item -1: one that is not known."""
        result = np.full((len(user), len(self.columns)), np.nan, dtype=np.float32)
        vector = 12 * self._module.vectors.shape[1]
        for part in self._past.blocks(
            user=user, item=item, time=time, block=self._block, row_bytes=vector, event_bytes=vector, pair_bytes=48
        ):
            with torch.inference_mode():
                values = self._module.compare(
                    torch.from_numpy(self._item[part.rows].astype(np.int64)),
                    torch.from_numpy(self._pleased[part.rows]),
                    torch.from_numpy(part.of(item, absent=-1).astype(np.int64)),
                    torch.from_numpy(part.compared),
                )
            part.put(values.numpy(), result)
        return result
