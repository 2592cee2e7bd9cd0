"""Metrics that compare embedding spaces, clusterings and distributions of similarity.

Shapes: n queries (anchors), m candidates.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau, rankdata
from sklearn.metrics import normalized_mutual_info_score


def nmi(clusters: np.ndarray, classes: np.ndarray) -> float:
    """Normalised mutual information of two partitions (arithmetic mean of entropies)."""
    return float(normalized_mutual_info_score(classes, clusters))


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over rows of Kendall's τ-b between two spaces' similarities.

    Args:
        first, second: [n, m] similarities of the same anchors to the same candidates.
    """
    return float(np.mean(kendall_by_row(first, second)))


def topk_overlap(first: np.ndarray, second: np.ndarray, *, k: int) -> float:
    """Mean over rows of the share of the ``k`` best that two spaces have in common.

    Args:
        first, second: [n, m] similarities of the same anchors to the same candidates.
    """
    return float(np.mean(overlap_by_row(first, second, k=k)))


def bijective_accuracy(scores: np.ndarray) -> float:
    """Share of queries whose nearest target's nearest query is themselves (METHOD 5.5); a tie for nearest is a miss.

    Args:
        scores: [n, n] score of query i and target j.
    """
    return float(np.mean(bijective_by_row(scores)))


def overlap_coefficient(true: np.ndarray, random: np.ndarray, *, bins: int = 50) -> float:
    """Area common to the two distributions' histograms: 0 = separated, 1 = alike (Inman and Bradley, 1989)."""
    edges = np.linspace(min(true.min(), random.min()), max(true.max(), random.max()), bins + 1)
    if edges[0] == edges[-1]:
        return 1.0
    shares = [np.histogram(part, edges)[0] / len(part) for part in (true, random)]
    return float(np.minimum(*shares).sum())


def kendall_by_row(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n] τ-b of each row; 0 where a row does not order anything."""
    return np.nan_to_num(np.array([kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]))


def overlap_by_row(first: np.ndarray, second: np.ndarray, *, k: int) -> np.ndarray:
    """[n] shares. Membership goes by mean rank, so a tie too large for the first ``k`` places is out as a whole."""
    k = min(k, first.shape[1])
    inside = [rankdata(-scores, axis=1) <= k for scores in (first, second)]
    return np.asarray((inside[0] & inside[1]).sum(axis=1) / k)


def bijective_by_row(scores: np.ndarray) -> np.ndarray:
    """[n] bool: query i is the nearest query of its nearest target."""
    best_target, best_query = scores.max(axis=1, keepdims=True), scores.max(axis=0, keepdims=True)
    chosen = (scores == best_target) & ((scores == best_target).sum(axis=1, keepdims=True) == 1)
    returned = (scores == best_query) & ((scores == best_query).sum(axis=0, keepdims=True) == 1)
    return np.asarray((chosen & returned).any(axis=1))
