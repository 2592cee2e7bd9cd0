"""What a user has met before a moment.

Shapes: m events, q questions, I items.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.log import Log
from recdistill.features.timeline import Timeline


class Meetings:
    """Index over a log's events by (user, item).

    Memory: 60 bytes an event.
    """

    def __init__(self, log: Log) -> None:
        self._items = np.int64(len(log.item_ids))
        self._pairs, pair = np.unique(log.user * self._items + log.item, return_inverse=True)
        self._timeline = Timeline(group=pair, time=log.time, groups=len(self._pairs))
        self._positives = np.concatenate([[0], np.cumsum(log.positive()[self._timeline.order])])

    def __call__(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Events of each user with the item strictly before the time, and how many of them were positive: [q] each."""
        asked = user * self._items + item
        at = np.minimum(np.searchsorted(self._pairs, asked), len(self._pairs) - 1)
        begin, end = self._timeline.before(at, time)
        met = self._pairs[at] == asked
        return np.where(met, end - begin, 0), np.where(met, self._positives[end] - self._positives[begin], 0)


class PastItems:
    """Draws from the items that a user has met before a moment, each in proportion to its weight.

    Memory: 50 bytes an event.

    Args:
        weight: [I] int64.
        user, time: [q] whose past is drawn from, before when.
    """

    def __init__(self, log: Log, *, weight: np.ndarray, user: np.ndarray, time: np.ndarray) -> None:
        timeline = Timeline(group=log.user, time=log.time, groups=len(log.user_ids))
        self._item = log.item[timeline.order]
        # Only the first event with an item counts: an item often met is not drawn more often.
        pair = log.user[timeline.order] * np.int64(len(log.item_ids)) + self._item
        first = np.unique(pair, return_index=True)[1]
        of_event = np.zeros(len(pair), dtype=np.int64)
        of_event[first] = weight[self._item[first]]
        self._sums = np.concatenate([[0], np.cumsum(of_event)])
        begin, end = timeline.before(user, time)
        self._low, self._high = self._sums[begin], self._sums[end]

    def draw(self, asked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[len(asked)] int32 an item for each of some of the questions; any item where all of a past weighs nothing."""
        low = self._low[asked]
        point = rng.integers(low, np.maximum(self._high[asked], low + 1))
        return self._item[np.minimum(np.searchsorted(self._sums, point, side="right"), len(self._item)) - 1]
