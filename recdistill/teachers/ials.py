"""Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

The fitting is `implicit`'s, an extra of this package.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recdistill.errors import UserError
from recdistill.teachers.positives import Positives


def ials_vectors(positives: Positives, *, dim: int, alpha: float, l2: float, iterations: int, seed: int) -> np.ndarray:
    """Item factors.

    Memory: 8 bytes a positive, twice, and 4·(U + V)·d.

    Args:
        alpha: weight of a positive against an unknown.
        l2: penalty of squared factors.
        iterations: sweeps over users and items.

    Returns:
        [V, d] float32; zero for an item without a positive.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError as error:
        raise UserError(
            "teachers.ials needs the package 'implicit'", remedy='pip install "recdistill[implicit]"'
        ) from error
    model = AlternatingLeastSquares(
        factors=dim, regularization=l2, alpha=alpha, iterations=iterations, random_state=seed
    )
    model.fit(interactions(positives), show_progress=False)
    factors = np.asarray(model.item_factors, dtype=np.float32)
    factors[positives.support.numpy() == 0] = 0.0
    return factors


def interactions(positives: Positives) -> sparse.csr_matrix:
    """[U, V] float32, 1 for each positive."""
    ones = np.ones(len(positives.item), dtype=np.float32)
    shape = (len(positives.counts), len(positives.item_ids))
    return sparse.csr_matrix((ones, positives.item.numpy(), positives.starts.numpy()), shape)
