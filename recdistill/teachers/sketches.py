"""Counting a stream of ids in memory that does not grow: how often each came, and how many there were.

Both take 64-bit hashes (``retrieval.hashing.mix``), not ids. Shapes: n distinct hashes of a call, D rows, W cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class CountMin:
    """How often each id came, never too low (count-min sketch: Cormode and Muthukrishnan, J. Algorithms 2005).

    Only the smallest of an id's D cells is raised, which makes the counts of rare ids far less wrong (conservative
    update: Estan and Varghese, SIGCOMM 2002). After ``16 · W`` events everything is halved, so that an endless stream
    does not fill the cells (the reset of TinyLFU: Einziger, Friedman and Manes, ACM TOS 2017, 3.3): counts are then
    of late, not of all time. Memory: 4·D·W bytes.
    """

    EVENTS_PER_CELL = 16

    def __init__(self, width: int, *, depth: int = 4) -> None:
        self.cells = torch.zeros(depth, width, dtype=torch.int32)
        self.events = torch.zeros(1, dtype=torch.int64)

    def add(self, hashes: np.ndarray, counts: Tensor) -> Tensor:
        """Count ids.

        Args:
            hashes: [n] distinct, uint64.
            counts: [n] int64 how often each came.

        Returns:
            [n] int64 the counts from before.
        """
        width = np.uint64(self.cells.shape[1])
        # All rows' cells from one hash (Kirsch and Mitzenmacher, ESA 2006); an odd stride visits different cells.
        first, stride = hashes & _LOW, (hashes >> _HALF) | np.uint64(1)
        cells = self.cells.numpy()
        columns = [((first + np.uint64(row) * stride) % width).astype(np.int64) for row in range(len(cells))]
        before = np.minimum.reduce([row[column] for row, column in zip(cells, columns, strict=True)])
        after = before + counts.numpy().astype(np.int32)
        for row, column in zip(cells, columns, strict=True):
            np.maximum.at(row, column, after)
        self.events += counts.sum()
        return torch.from_numpy(before.astype(np.int64))

    def halve_when_full(self) -> bool:
        """Halve all counts if it is time, and say whether it was."""
        full = int(self.events) >= self.EVENTS_PER_CELL * self.cells.shape[1]
        if full:
            self.cells >>= 1
            self.events >>= 1
        return full


class Distinct:
    """How many distinct ids came, to about 1% (HyperLogLog: Flajolet et al., AofA 2007). Memory: 16 kB."""

    BITS = 14

    def __init__(self) -> None:
        self.registers = torch.zeros(2**self.BITS, dtype=torch.uint8)

    def add(self, hashes: np.ndarray) -> None:
        """[n] uint64; what came before changes nothing."""
        place = (hashes & np.uint64(2**self.BITS - 1)).astype(np.int64)
        rest = (hashes >> np.uint64(self.BITS)).astype(np.float64)  # 50 bits: exact
        leading = 64 - self.BITS - np.frexp(rest)[1]
        np.maximum.at(self.registers.numpy(), place, (leading + 1).astype(np.uint8))

    def estimate(self) -> int:
        """The number of distinct ids."""
        registers = self.registers.double()
        size = len(registers)
        raw = 0.7213 / (1 + 1.079 / size) * size**2 / float((2.0**-registers).sum())
        empty = int((self.registers == 0).sum())
        # Below this, counting the empty registers is the better estimate.
        return round(size * float(np.log(size / empty)) if raw <= 2.5 * size and empty else raw)
