"""How much of the space's neighbourhoods semantic IDs keep.

Shapes: n items, d width, q items asked, k neighbours, L levels, m distinct IDs.
"""

from __future__ import annotations

import numpy as np

from recdistill.features.semantic_ids.codebooks import Codebooks

_BLOCK = 1 << 24


def nearest_items(units: np.ndarray, asked: np.ndarray, *, k: int) -> np.ndarray:
    """[q, k] the items most similar by dot product to each item asked for, itself left out, in no order.

    Args:
        units: [n, d] of length one, n > k.
        asked: [q] rows.
    """
    found = np.empty((len(asked), k), dtype=np.int64)
    step = max(_BLOCK // len(units), 1)
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        similar = units[part] @ units.T
        similar[np.arange(len(part)), part] = -np.inf
        found[start : start + step] = np.argpartition(-similar, k - 1, axis=1)[:, :k]
    return found


def shared(buckets: np.ndarray, asked: np.ndarray, neighbours: np.ndarray) -> list[float]:
    """Of each level, the share of neighbours [q, k] in the bucket ([n, L]) of the item whose neighbours they are."""
    same = buckets[neighbours] == buckets[asked][:, None]  # [q, k, L]
    return [float(share) for share in same.mean(axis=(0, 1))]


def shared_by_chance(buckets: np.ndarray) -> list[float]:
    """Of each level, the share of all pairs of two items that are in one bucket: what :func:`shared` is above."""
    found = []
    for level in buckets.T:
        counts = np.unique(level, return_counts=True)[1].astype(np.float64)
        found.append(float((counts * (counts - 1)).sum() / (len(level) * (len(level) - 1.0))))
    return found


def overlap(books: Codebooks, codes: np.ndarray, asked: np.ndarray, neighbours: np.ndarray) -> float:
    """Share of the neighbours that are still among the k nearest if every item is what its codes stand for.

    Items of one ID are equally near; where not all of them can be among the k, each counts by its chance to be drawn.

    Args:
        codes: [n, L].
        asked, neighbours: [q] and [q, k] rows of ``codes``.
    """
    ids, bucket, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    stood = books.decode(ids)  # [m, d]
    k = neighbours.shape[1]
    nearest = min(k + 1, len(ids))  # IDs that can have a part in the k: one each, and the item's own, maybe empty
    step = max(_BLOCK // len(ids), 1)
    total = 0.0
    for start in range(0, len(asked), step):
        own = bucket[asked[start : start + step]]
        similar = stood[own] @ stood.T
        similar[np.arange(len(own)), own] = np.inf
        top = np.argpartition(-similar, nearest - 1, axis=1)[:, :nearest]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(similar, top, axis=1), axis=1), axis=1)
        items = counts[top] - (top == own[:, None])
        before = items.cumsum(axis=1) - items
        chance = np.clip((k - before) / np.maximum(items, 1), 0, 1)
        by_id = np.zeros(similar.shape, dtype=np.float32)
        np.put_along_axis(by_id, top, chance.astype(np.float32), axis=1)
        total += float(np.take_along_axis(by_id, bucket[neighbours[start : start + step]], axis=1).sum())
    return total / neighbours.size
