"""Clusters of a table's vectors.

Shapes: n rows of the table, I items of a catalogue.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans, MiniBatchKMeans

from recdistill.contracts.tables import EmbeddingTable

Kind = Literal["auto", "full", "mini_batch"]
_KMEANS_LIMIT = 50_000  # items; above it mini-batches, if nothing else is asked for


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; zero stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def clusters(table: EmbeddingTable, item_ids: pd.Index, *, count: int, seed: int, kind: Kind = "auto") -> np.ndarray:
    """[I] k-means cluster of each item's vector on the unit sphere, at most one per ten rows; -1 without a vector."""
    vectors = unit_rows(table.vectors)
    count = max(1, min(count, len(vectors) // 10))
    full = kind == "full" or (kind == "auto" and len(vectors) <= _KMEANS_LIMIT)
    means = (KMeans if full else MiniBatchKMeans)(n_clusters=count, random_state=seed, n_init=1)
    labels = means.fit_predict(vectors)
    rows = table.ids.get_indexer(item_ids)
    return np.where(rows >= 0, labels[rows], -1)
