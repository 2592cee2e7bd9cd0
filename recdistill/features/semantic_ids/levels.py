"""One level of codes: its centroids, and which of them a vector is nearest to.

Shapes: n rows, d width, k codes of the level.
"""

from __future__ import annotations

import numpy as np

from recdistill.features.space import principal_directions

_BLOCK = 1 << 22


def nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """[n] int64 the nearest of [k, d] centroids (ties: the lower code), whatever n in 16 MB beside the result."""
    half_norm = 0.5 * (centroids**2).sum(axis=1)
    step = max(_BLOCK // len(centroids), 1)
    found = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        found[start : start + step] = (half_norm - part @ centroids.T).argmin(axis=1)
    return found


def in_order(centroids: np.ndarray) -> np.ndarray:
    """The centroids numbered along their first principal direction.

    So codes of two fits that found the same clusters are the same, and neighbouring numbers are neighbours in space.
    """
    if len(centroids) == 1:
        return centroids
    place = centroids.astype(np.float64) @ principal_directions(centroids, width=1)[:, 0]
    return centroids[np.argsort(place, kind="stable")]


def means_by_code(vectors: np.ndarray, codes: np.ndarray, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The level whose codes mean what they meant in an earlier fit: of each code the mean of the items that have it.

    A code that none of the items has any more gets the vector that lies farthest from every centroid there is.

    Args:
        vectors: [n, d].
        codes: [n] earlier codes, -1 where an item had none; below ``size``, and not all -1.
        size: codes of the level, at most n.

    Returns:
        [size, d] float32 centroids, and [size] int64 items of each.
    """
    known = codes >= 0
    counts = np.bincount(codes[known], minlength=size)
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, codes[known], vectors[known])
    centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    if not counts.all():
        held = centroids[counts > 0]
        away = ((vectors - held[nearest(vectors, held)]) ** 2).sum(axis=1)
        for code in np.flatnonzero(counts == 0):
            centroids[code] = vectors[away.argmax()]
            away = np.minimum(away, ((vectors - centroids[code]) ** 2).sum(axis=1))
    return centroids, counts
