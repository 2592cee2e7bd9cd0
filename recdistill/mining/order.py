"""Sorting that is exact and fast: whole numbers with their places packed into 64 bits.

Shapes: M entries.
"""

from __future__ import annotations

import numpy as np


def stable_order(key: np.ndarray, *, bits: int) -> np.ndarray:
    """[M] positions in ascending order of ``key``, equal keys by position.

    numpy sorts plain 64-bit numbers many times faster than it sorts positions, so the positions travel in the low bits
    where they fit.

    Args:
        key: [M] uint64 below 2 ** bits.
    """
    places = max(len(key) - 1, 0).bit_length()
    if bits + places > 64:
        return np.argsort(key, kind="stable")
    packed = key << np.uint64(places)
    packed |= np.arange(len(key), dtype=np.uint64)
    packed.sort()
    packed &= np.uint64((1 << places) - 1)
    return packed.astype(np.int64)


def best_per_owner(owner: np.ndarray, badness: np.ndarray, *, owners: int, count: int) -> np.ndarray:
    """Positions of each owner's ``count`` best entries, best first, grouped by owner.

    Args:
        owner: [M] int64, ascending, below ``owners``; badness: [M] uint32, lower is better, ties by the earlier
            position.
    """
    sizes = np.bincount(owner, minlength=owners)
    key = owner.astype(np.uint64) << np.uint64(32)
    key |= badness
    ranked = stable_order(key, bits=32 + max(owners - 1, 0).bit_length())
    # The owners stand as they stood; only the entries within each have moved.
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranked[place < count]


def lower_is_better(score: np.ndarray) -> np.ndarray:
    """[M] uint32 in the opposite order of float32 scores that are not NaN."""
    bits = (score.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: a negative zero is a zero
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return ~ascending
