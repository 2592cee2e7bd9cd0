"""Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

The fitting is `implicit`'s, an extra of this package.

Shapes: U users, I items, d width.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recdistill.extras import need


def item_factors(
    positives: sparse.csr_matrix, *, dim: int, alpha: float, l2: float, iterations: int, seed: int
) -> np.ndarray:
    """Factors of the columns of [U, I] float32, 1 for each positive.

    Memory: 8 bytes a positive, twice, and 4·(U + I)·d.

    Args:
        alpha: weight of a positive against an unknown.
        l2: penalty of squared factors.
        iterations: sweeps over users and items.
        seed: of the factors at the start.

    Returns:
        [I, d] float32; zero for an item without a positive.

    Raises:
        UserError: the package is not installed.
    """
    need("implicit", what="iALS")
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=dim, regularization=l2, alpha=alpha, iterations=iterations, random_state=seed
    )
    model.fit(positives, show_progress=False)
    factors = np.asarray(model.item_factors, dtype=np.float32)
    factors[positives.getnnz(axis=0) == 0] = 0.0
    return factors
