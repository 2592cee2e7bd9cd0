"""Adaptive data balancing: training sets weigh more the nearer they lie to what is validated (SAIL-Embedding, 3.1.3).

Each dataset is reduced to k-means centroids of a sample of its embeddings; two datasets are as near as the optimal
transport between their centroids is cheap.

Shapes: n sampled embeddings, d width, a and b centroids.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans


def balance(
    training: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray],
    *,
    clusters: int,
    regularisation: float,
    temperature: float,
    seed: int,
) -> dict[str, float]:
    """Sampling weight of each training set: softmax of its mean similarity to the validation sets.

    Args:
        training: name to [n, d] embeddings of a sample (the report takes about 10,000), n ≥ 1; n may differ.
        validation: likewise.
        clusters: centroids of each dataset, as far as it has that many distinct embeddings.
        regularisation: entropic, of the transport (:func:`sinkhorn`).
        temperature: of the softmax; similarities lie in [−1, 1]. The smaller, the more one set takes all.
        seed: of k-means; the same for every dataset, so that equal samples have equal centroids.

    Returns:
        name to weight, summing to 1.

    Raises:
        ValueError: no training or no validation set.
    """
    if not training or not validation:
        raise ValueError("balancing needs training and validation sets")
    goals = [centroids(sample, count=clusters, seed=seed) for sample in validation.values()]
    score = [
        np.mean([similarity(own, goal, regularisation=regularisation) for goal in goals])
        for own in (centroids(sample, count=clusters, seed=seed) for sample in training.values())
    ]
    weights = softmax(np.array(score) / temperature)
    return dict(zip(training, weights.tolist(), strict=True))


def centroids(sample: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """[a ≤ count, d] float64 k-means centroids of [n, d] embeddings on the unit sphere; zero embeddings stay zero."""
    unit = _unit(sample)
    count = min(count, len(np.unique(unit, axis=0)))
    return np.asarray(KMeans(n_clusters=count, random_state=seed, n_init=1).fit(unit).cluster_centers_)


def similarity(one: np.ndarray, other: np.ndarray, *, regularisation: float) -> float:
    """Σ P ⊙ C in [−1, 1]: C the cosines of [a, d] and [b, d] centroids, P the transport plan of cost 1 − C."""
    cosine = _unit(one) @ _unit(other).T
    return float((sinkhorn(1 - cosine, regularisation=regularisation) * cosine).sum())


def sinkhorn(cost: np.ndarray, *, regularisation: float, iterations: int = 1000, tolerance: float = 1e-6) -> np.ndarray:
    """Entropic optimal transport between uniform marginals, in the log domain (Cuturi, 1306.0895).

    Args:
        cost: [a, b].
        regularisation: > 0; towards 0 the plan becomes the unregularised one, and takes longer.
        iterations: at most; a plan that has not settled by then is off in its row sums only.
        tolerance: the row sums' total deviation from 1 / a at which the plan has settled.

    Returns:
        [a, b] plan ≥ 0, with column sums 1 / b and row sums 1 / a.
    """
    kernel = -cost / regularisation
    rows, columns = cost.shape
    right = np.zeros(columns)
    plan = np.empty_like(kernel)
    for _ in range(iterations):
        left = -np.log(rows) - logsumexp(kernel + right, axis=1)
        right = -np.log(columns) - logsumexp(kernel + left[:, None], axis=0)
        plan = np.exp(kernel + left[:, None] + right)
        if np.abs(plan.sum(axis=1) - 1 / rows).sum() < tolerance:
            break
    return plan


def _unit(vectors: np.ndarray) -> np.ndarray:
    values = np.asarray(vectors, dtype=np.float64)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norm > 0, norm, 1.0)
