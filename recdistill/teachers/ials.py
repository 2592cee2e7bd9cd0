"""Item factors of iALS as a teacher's vectors."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recdistill.retrieval.ials import item_factors
from recdistill.teachers.positives import Positives


def ials_vectors(positives: Positives, *, dim: int, alpha: float, l2: float, iterations: int, seed: int) -> np.ndarray:
    """[V, d] float32, zero for an item without a positive; arguments and errors are those of :func:`item_factors`."""
    return item_factors(interactions(positives), dim=dim, alpha=alpha, l2=l2, iterations=iterations, seed=seed)


def interactions(positives: Positives) -> sparse.csr_matrix:
    """[U, V] float32, 1 for each positive."""
    ones = np.ones(len(positives.item), dtype=np.float32)
    shape = (len(positives.counts), len(positives.item_ids))
    return sparse.csr_matrix((ones, positives.item.numpy(), positives.starts.numpy()), shape)
