"""Codebooks by k-means: every level of the vectors themselves, or each of what the levels before it left over.

Shapes: n items, d width, L levels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from recdistill.features.semantic_ids.levels import in_order, means_by_code, nearest

_MINI_BATCH_ABOVE = 100_000


def kmeans_levels(
    vectors: np.ndarray, *, sizes: Sequence[int], residual: bool, start: np.ndarray | None, seed: int
) -> tuple[np.ndarray, ...]:
    """Centroids of every level, fitted one after the other.

    Args:
        vectors: [n, d] of length one.
        sizes: codes of each level, at most n.
        start: [n, L] codes of an earlier fit, -1 where an item had none: where each level begins, and what its
            numbers are kept from.

    Memory: 3 · 4 · n · d bytes.
    """
    left, levels = vectors, list[np.ndarray]()
    for at, size in enumerate(sizes):
        begin = None if start is None else means_by_code(left, start[:, at], size=size)[0]
        level = _fit(left, size=size, begin=begin, seed=seed + at)
        levels.append(level)
        if residual:
            left = left - level[nearest(left, level)]
    return tuple(levels)


def _fit(vectors: np.ndarray, *, size: int, begin: np.ndarray | None, seed: int) -> np.ndarray:
    kind = MiniBatchKMeans if len(vectors) > _MINI_BATCH_ABOVE else KMeans
    options: dict[str, Any] = {"batch_size": 4096} if kind is MiniBatchKMeans else {}
    if begin is not None:
        # Further rounds make the fit no better, and codes wander: of IDs of 32 × 32 codes, 98 % stay as the catalogue
        # grows by a ninth, 75 % if k-means goes on until it rests.
        options |= {"init": begin, "max_iter": 1}
        if kind is MiniBatchKMeans:
            options["reassignment_ratio"] = 0.0  # a code of few items would move elsewhere, and mean something else
    model = kind(size, n_init=1, random_state=seed, **options)
    # In one thread: sums, and with them codes at a border, would depend on the number of threads.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than codes
        centroids = model.fit(vectors).cluster_centers_.astype(np.float32)
    return in_order(centroids) if begin is None else centroids
