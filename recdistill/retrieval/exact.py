"""How finely values may be kept so that float64 sums of products have no rounding error.

Then equal vectors tie exactly, and neither a block's size, nor the order of rows, nor the machine's matmul kernel can
change a score.
"""

from __future__ import annotations

import math

_MANTISSA_BITS = 53


def exact_bits(width: int) -> tuple[int, int]:
    """Bits of a query's and of an item's values such that differences of sums of ``width`` products are exact.

    Values are whole multiples of 2^-bits of the largest magnitude that either side may have; up to 4,096 dimensions
    that is 2^-20 or finer, about the precision of float32.
    """
    spare = 1 + math.ceil(math.log2(max(width, 2)))
    return (_MANTISSA_BITS - spare + 1) // 2, (_MANTISSA_BITS - spare) // 2
