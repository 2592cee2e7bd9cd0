"""Several teachers as one: their vectors side by side, whitened.

Shapes: n items, d_k a teacher's width, d the width that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recdistill.contracts.tables import EmbeddingTable


def fuse(tables: Sequence[EmbeddingTable], *, dim: int) -> EmbeddingTable:
    """Centred teachers of unit mean length, side by side; principal components, whitened to the power 1/2.

    Half the whitening: components keep the root of their deviation, so that noise is not raised to signal.
    An item that one teacher lacks has that teacher's mean. Memory 8·n·Σd_k bytes.

    Args:
        tables: two or more, of any geometry; cosine ones are scaled to length 1 first.
        dim: components kept, at most Σ d_k.

    Returns:
        vectors [n, ≤ dim] of every item that any teacher knows, to be compared by cosine; support is the most,
        confidence the mean over teachers (0 where one lacks the item).
    """
    ids = pd.Index(np.unique(np.concatenate([table.ids.to_numpy() for table in tables])))
    parts = [_centred(table, ids) for table in tables]
    joined = np.hstack(parts)
    values, directions = np.linalg.eigh(joined.T @ joined / len(joined))
    order = np.argsort(-values)[:dim]
    order = order[values[order] > 1e-12 * values.max()]
    vectors = joined @ directions[:, order] / values[order] ** 0.25
    supports = [_spread(table.support, table, ids) for table in tables if table.support is not None]
    confidences = [_spread(table.confidence, table, ids) for table in tables if table.confidence is not None]
    return EmbeddingTable(
        ids,
        vectors.astype(np.float32),
        np.max(supports, axis=0).astype(np.int64) if supports else None,
        np.mean(confidences, axis=0).astype(np.float32) if confidences else None,
        {"kind": "fusion", "geometry": "cosine", "dim": len(order)},
    )


def _centred(table: EmbeddingTable, ids: pd.Index) -> np.ndarray:
    vectors = table.vectors.astype(np.float64)
    if table.metadata.get("geometry", "cosine") == "cosine":
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    vectors -= vectors.mean(axis=0)
    vectors /= max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    spread = np.zeros((len(ids), vectors.shape[1]))
    spread[ids.get_indexer(table.ids)] = vectors
    return spread


def _spread(values: np.ndarray, table: EmbeddingTable, ids: pd.Index) -> np.ndarray:
    spread = np.zeros(len(ids))
    spread[ids.get_indexer(table.ids)] = values
    return spread
