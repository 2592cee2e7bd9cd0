"""How finely values may be kept so that float64 sums of products have no rounding error.

Then equal vectors tie exactly, and neither a block's size, nor the order of rows, nor the machine's matmul kernel can
change a score.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MANTISSA_BITS = 53


def exact_bits(width: int) -> tuple[int, int]:
    """Bits of a query's and of an item's values such that differences of sums of ``width`` products are exact.

    Values are whole multiples of 2^-bits of the largest magnitude that either side may have; up to 4,096 dimensions
    that is 2^-20 or finer, about the precision of float32.
    """
    spare = 1 + math.ceil(math.log2(max(width, 2)))
    return (_MANTISSA_BITS - spare + 1) // 2, (_MANTISSA_BITS - spare) // 2


def to_grid(vectors: Tensor, bits: int, *, dim: int | None) -> tuple[Tensor, Tensor]:
    """The vectors as float64 whole numbers up to 2^bits, scaled by their largest value (one a row, where ``dim`` is 1).

    Returns:
        the numbers, and what a step of the grid is worth: a scalar, or one a row ([n, 1]).

    Raises:
        ValueError: a value is not finite.
    """
    if not torch.isfinite(vectors).all():
        raise ValueError("vectors must be finite")
    values = vectors.double()
    if not values.numel():
        return values, torch.ones(() if dim is None else (len(values), 1), dtype=torch.float64)
    largest = values.abs().max() if dim is None else values.abs().amax(dim=dim, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    return (values / largest * 2.0**bits).round_(), largest / 2.0**bits
