"""Which events are compared together: those of a user whose histories overlap share one gathering of vectors.

Shapes: n events, T tiles, H history rows of a tile, C events of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_CANDIDATES = 16  # events of a tile at most
_WIDTH = 16  # histories are padded to multiples of it, so that few shapes occur


@dataclass(frozen=True)
class Tiles:
    """Events by user and history; a tile is up to 16 of one user's, whose histories lie within ``last + stride`` rows.

    Attributes:
        order: [n] the events, by user and end of their history.
        first: [T + 1] tile t holds the events ``order[first[t]:first[t + 1]]``.
        low, high: [T] the history rows that at least one of a tile's events is compared with lie in ``low:high``.
    """

    order: np.ndarray
    first: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, *, user: np.ndarray, begin: np.ndarray, end: np.ndarray, stride: int) -> Tiles:
        """
        Args:
            user, begin, end: [n] of each event, with the history ``begin:end`` (not empty), n ≥ 1.
            stride: ends that fall into the same span of so many rows may share a tile.
        """
        order = np.lexsort((end, user))
        of, span = user[order], end[order] // stride
        runs = np.flatnonzero(np.concatenate([[True], (of[1:] != of[:-1]) | (span[1:] != span[:-1])]))
        place = np.arange(len(order)) - np.repeat(runs, np.diff(runs, append=len(order)))
        first = np.flatnonzero(place % _CANDIDATES == 0)
        low, high = np.minimum.reduceat(begin[order], first), np.maximum.reduceat(end[order], first)
        return cls(order, np.append(first, len(order)), low, high)

    def blocks(self, *, block: int, row_bytes: int, event_bytes: int, pair_bytes: int) -> Iterator[np.ndarray]:
        """Tiles that are computed at once: of like shape, and in ``block`` bytes (or one tile).

        Args:
            row_bytes, event_bytes, pair_bytes: what a history row, an event, and the two together take.
        """
        rows = -(-(self.high - self.low) // _WIDTH) * _WIDTH
        events = 1 << np.ceil(np.log2(np.diff(self.first))).astype(np.int64)
        by_shape = np.lexsort((events, rows))
        rows, events = rows[by_shape], events[by_shape]
        changes = np.flatnonzero((rows[1:] != rows[:-1]) | (events[1:] != events[:-1])) + 1
        for low, high in zip([0, *changes], [*changes, len(by_shape)], strict=True):
            tile = rows[low] * row_bytes + events[low] * (event_bytes + rows[low] * pair_bytes)
            step = max(1, int(block // tile))
            for start in range(low, high, step):
                yield by_shape[start : min(start + step, high)]

    def slots(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """History rows [B, H] and events [B, C] of some tiles; -1 pads the events, rows go on beyond ``high``."""
        width = -(-int((self.high[tiles] - self.low[tiles]).max()) // _WIDTH) * _WIDTH
        rows = self.low[tiles][:, None] + np.arange(width)
        places = self.first[tiles][:, None] + np.arange(int(np.diff(self.first)[tiles].max()))
        inside = places < self.first[tiles + 1][:, None]
        return rows, np.where(inside, self.order[np.minimum(places, len(self.order) - 1)], -1)
