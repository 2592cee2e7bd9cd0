"""Rows of a catalogue compared by cosine: what the modules of match features and of reactions share.

Shapes: I items, d width, B users at once, H history rows, C candidates.

**Equality.** Unit vectors are rounded to multiples of 2^-26 (an error below float32's own), so their products are
multiples of 2^-52 below 2 and every partial sum is exact in float64; cosines are rounded to multiples of 2^-40, so
sums of 4,096 are exact too. Cosines are thereby the same bits however the rows are padded, blocked, threaded or fused.
"""

# No postponed annotations here: torch.jit.script reads them as they are.
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_VECTOR_GRID = 2.0**26


def padded(vectors: np.ndarray) -> Tensor:
    """[I, d] unit vectors → [I + 1, d] float32 on the grid; the last row is no item's."""
    rounded = np.rint(vectors.astype(np.float32) * np.float32(_VECTOR_GRID)) / np.float32(_VECTOR_GRID)
    return F.pad(torch.from_numpy(rounded), (0, 0, 0, 1))


def buffer_rows(rows: Tensor, vectors: Tensor) -> Tensor:
    """Rows of ``vectors`` [I + 1, d], the last one for what is no item (-1)."""
    return rows.masked_fill(rows < 0, vectors.shape[0] - 1)


def cosines(vectors: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """[B, C, H] float64 of candidates [B, C] to histories [B, H], both rows of ``vectors``."""
    grid = 2.0**40
    candidates, history = F.embedding(mine, vectors).double(), F.embedding(theirs, vectors).double()
    return torch.round(torch.matmul(candidates, history.transpose(1, 2)) * grid) / grid


def newest(counts: Tensor, last: int) -> Tensor:
    """[B, H] bool: of the rows that count, oldest first, the ``last`` newest."""
    return counts & (counts.flip(1).cumsum(1).flip(1) <= last)
