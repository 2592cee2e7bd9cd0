"""EASE in closed form (Steck, WWW 2019): B = I − P · diag(1 / diag P), P = (AᵀA + λI)⁻¹, zero diagonal.

Shapes: n items, r rows of A.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ease_weights(rows: Tensor, *, l2: float) -> Tensor:
    """B for a matrix with fewer rows than items: P = (I − AᵀM⁻¹A) / λ with M = AAᵀ + λI (Woodbury's identity).

    Time r²n + rn², memory 4n² + 8rn bytes.

    Args:
        rows: [r, n] A.
        l2: λ > 0.

    Returns:
        [n, n] float32.
    """
    wide = rows.double()
    system = wide @ wide.T
    system.diagonal().add_(l2)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(system), wide, upper=False)
    kept = 1 - (half**2).sum(dim=0)  # λ · diag P
    half = half.float()
    weights = half.T @ half
    weights.div_(kept.float())
    return weights.fill_diagonal_(0.0)


def ease_weights_of_gram(gram: Tensor, *, l2: float) -> Tensor:
    """B from AᵀA, by inversion: time n³, memory 12n² bytes at the peak.

    Args:
        gram: [n, n] float32.
        l2: λ > 0.

    Returns:
        [n, n] float32.
    """
    system = gram.clone()
    system.diagonal().add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(system))
    weights = inverse.div_(-inverse.diagonal().clone())
    return weights.fill_diagonal_(0.0)
