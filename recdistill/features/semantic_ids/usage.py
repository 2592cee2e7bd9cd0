"""How well codes tell items apart and use their books, and how many stayed since an earlier fit.

Shapes: n items, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def collisions(codes: np.ndarray) -> dict[str, Any]:
    """Of codes [n, L].

    Returns:
        ``items``; ``distinct`` IDs; ``collision_rate``: share of items whose whole ID another item has too;
        ``largest_bucket``: most items under one ID.
    """
    _, counts = np.unique(codes, axis=0, return_counts=True)
    return {
        "items": len(codes),
        "distinct": len(counts),
        "collision_rate": float(counts[counts > 1].sum() / len(codes)),
        "largest_bucket": int(counts.max()),
    }


def usage(codes: np.ndarray, *, sizes: Sequence[int]) -> list[float]:
    """Of each level, the share of its codes that occur."""
    return [len(np.unique(codes[:, at])) / size for at, size in enumerate(sizes)]


def perplexity(codes: np.ndarray) -> list[float]:
    """Of each level, exp of its codes' entropy: how many codes in even use would tell as much; at most its size."""
    found = []
    for level in codes.T:
        share = np.unique(level, return_counts=True)[1] / len(codes)
        found.append(float(np.exp(-(share * np.log(share)).sum())))
    return found


def kept(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """How many of the items that had codes before have the same now; of [n, L], -1 before where an item had none.

    Returns:
        ``items`` that had codes; ``whole``: share whose whole ID is the same; ``levels``: of each level, share whose
        code there is the same.
    """
    known = (before >= 0).all(axis=1)
    same = before[known] == after[known]
    return {
        "items": int(known.sum()),
        "whole": float(same.all(axis=1).mean()),
        "levels": same.mean(axis=0).tolist(),
    }
