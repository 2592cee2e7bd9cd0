"""What lies strictly before each of many events, block by block: every batch of history features goes over it.

Shapes: m history rows, n events asked about, B tiles of a block, H history rows and C events of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.features.tiles import Tiles
from recdistill.features.timeline import Timeline


@dataclass(frozen=True)
class Block:
    """Events beside the history rows that at least one of them is compared with.

    Attributes:
        rows: [B, H] int64 places in :attr:`Past.order`.
        events: [B, C] int64 rows of what was asked, -1 pads.
        compared: [B, C, H] bool: the history rows that count for an event.
    """

    rows: np.ndarray
    events: np.ndarray
    compared: np.ndarray

    def of(self, asked: np.ndarray, *, absent: int) -> np.ndarray:
        """[B, C] what was asked [n] of each event, ``absent`` where there is none."""
        return np.where(self.events >= 0, asked[self.events], absent)

    def put(self, values: np.ndarray, result: np.ndarray) -> None:
        """Write [B, C, F] values into the events' rows of [n, F] ``result``."""
        real = self.events >= 0
        result[self.events[real]] = values[real]


class Past:
    """The histories of many users; an event's is the ``last`` rows strictly before it.

    An event of equal time does not count as history (logs rated in one sitting would leak the label otherwise). History
    of equal time is ordered by ``ties``, for where ``last`` cuts through it: the order of a file would be another one
    in Spark.

    Memory: 48 bytes a history row (105 while they are sorted), 80 bytes an event asked for, and the block.

    Args:
        present: [I] bool: the items that have a vector; history without one is dropped, candidates have no history.
        user, item, time, ties: [m] (row numbers; microseconds).
        users: how many users there are.

    Attributes:
        order: [h] int64 the rows that are kept, by user, time and ties.
    """

    def __init__(
        self,
        *,
        present: np.ndarray,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        ties: np.ndarray,
        users: int,
        last: int,
    ) -> None:
        kept = np.flatnonzero((item >= 0) & present[item])
        self._timeline = Timeline(group=user[kept], time=time[kept], groups=users, ties=ties[kept])
        self._present, self._last = present, last
        self.order = kept[self._timeline.order]

    def blocks(
        self,
        *,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        block: int,
        row_bytes: int,
        event_bytes: int,
        pair_bytes: int,
    ) -> Iterator[Block]:
        """The events that have a history and a candidate with a vector, each once.

        Args:
            user, item, time: [n] events; user or item -1: one that is not known.
            block: bytes of what is computed at a time (or, where that is more, 16 events of one user).
            row_bytes, event_bytes, pair_bytes: what a history row, an event, and the two together take.
        """
        asked = np.flatnonzero((user >= 0) & (item >= 0) & self._present[item])
        begin, end = self._timeline.before(user[asked], time[asked])
        begin = np.maximum(begin, end - self._last)
        some = np.flatnonzero(end > begin)
        if not len(some):
            return
        asked, begin, end = asked[some], begin[some], end[some]
        tiles = Tiles.of(user=user[asked], begin=begin, end=end, stride=max(self._last // 2, 4))
        for chosen in tiles.blocks(block=block, row_bytes=row_bytes, event_bytes=event_bytes, pair_bytes=pair_bytes):
            rows, places = tiles.slots(chosen)
            real = places >= 0
            low, high = (np.where(real, bound[places], 0)[:, :, None] for bound in (begin, end))
            compared = (rows[:, None, :] >= low) & (rows[:, None, :] < high)
            yield Block(np.minimum(rows, len(self.order) - 1), np.where(real, asked[places], -1), compared)
