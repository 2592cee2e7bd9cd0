"""Linear changes of a space that take something out of it: what predicts a quantity, what another space knows already.

Each is fitted on some items (``fitted``) and applied to all, so that nothing is learned from items that training must
not know. None of them sees a label.

Shapes: I items, d width, c width of the other space, k quantities.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV

_RIDGE = 1e-3  # of the mean variance of a direction
_ALPHAS = np.logspace(-2, 3, 6)


def erase(vectors: np.ndarray, quantities: np.ndarray, *, fitted: np.ndarray) -> np.ndarray:
    """Take out of the vectors all that predicts the quantities linearly, and as little else as that allows.

    Least-squares concept erasure (Belrose et al., arXiv 2306.03819, theorem 4.2): of all affine changes after which no
    linear predictor of the quantities is better than a constant on the fitted items, the one that moves the vectors
    least. To project away the regression's own direction would not do: others that correlate with it would still tell.

    Args:
        vectors: [I, d].
        quantities: [I, k].
        fitted: [I] bool.

    Returns:
        [I, d] float32.
    """
    known = vectors[fitted].astype(np.float64)
    mean = known.mean(axis=0)
    known -= mean
    wanted = quantities[fitted].astype(np.float64)
    covariance = known.T @ known / len(known)
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    cross = known.T @ (wanted - wanted.mean(axis=0)) / len(known)  # [d, k]
    predictor = np.linalg.solve(covariance, cross)
    change = predictor @ np.linalg.pinv(cross.T @ predictor) @ cross.T  # [d, d] of rank k
    return (vectors - (vectors - mean) @ change).astype(np.float32)


def residual(vectors: np.ndarray, given: np.ndarray, *, fitted: np.ndarray) -> np.ndarray:
    """What a ridge regression from another space of the same items leaves over; its strength by leave-one-out.

    Args:
        vectors: [I, d].
        given: [I, c].
        fitted: [I] bool.

    Returns:
        [I, d] float32.
    """
    model = RidgeCV(_ALPHAS).fit(given[fitted].astype(np.float64), vectors[fitted].astype(np.float64))
    return (vectors - model.predict(given)).astype(np.float32)


def whiten(vectors: np.ndarray, *, power: float, fitted: np.ndarray) -> np.ndarray:
    """Give directions of little variance more weight, so that a cosine is not the say of a few common ones.

    Each principal direction is divided by its standard deviation to the ``power``, in place (ZCA): 0 changes nothing
    but the mean, 1 whitens wholly.

    Args:
        vectors: [I, d].
        fitted: [I] bool.

    Returns:
        [I, d] float32, of mean zero over the fitted items.
    """
    known = vectors[fitted].astype(np.float64)
    mean = known.mean(axis=0)
    variance, directions = np.linalg.eigh((known - mean).T @ (known - mean) / len(known))
    # Directions that the items do not span are noise, which whitening would blow up.
    spanned = variance > 1e-6 * variance[-1]
    scale = np.where(spanned, np.where(spanned, variance, 1.0) ** (-power / 2), 0.0)
    return ((vectors - mean) @ (directions * scale) @ directions.T).astype(np.float32)
