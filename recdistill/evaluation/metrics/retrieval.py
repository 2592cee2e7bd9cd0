"""Metrics of a target's rank among all candidates.

Shapes: C cases, each with one target and its 1-based rank (mean rank on ties, so ranks may end in .5).
"""

from __future__ import annotations

import numpy as np


def recall_at_k(ranks: np.ndarray, *, k: int) -> float:
    """Share of targets ranked ``k`` or better (METHOD 5; NaN without cases)."""
    return float(np.mean(ranks <= k)) if len(ranks) else float("nan")


def ndcg_at_k(ranks: np.ndarray, *, k: int, lists: np.ndarray | None = None) -> float:
    """Normalised discounted cumulative gain, mean over lists (Järvelin and Kekäläinen, TOIS 2002; binary gains).

    Args:
        ranks: [C] ranks.
        k: cutoff.
        lists: [C] the list (query) each target belongs to; None: a list a target.
    """
    gain, ideal = list_gains(ranks, lists=np.arange(len(ranks)) if lists is None else lists, k=k)
    return float(np.mean(gain / ideal)) if len(gain) else float("nan")


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank (NaN without cases)."""
    return float(np.mean(1 / ranks)) if len(ranks) else float("nan")


def list_gains(ranks: np.ndarray, *, lists: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each list's DCG at ``k`` and the best it could have, in ascending order of the list numbers that occur."""
    _, row, size = np.unique(lists, return_inverse=True, return_counts=True)
    gain = np.bincount(row, weights=np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0), minlength=len(size))
    best = np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))
    return gain, best[np.minimum(size, k) - 1] if len(size) else np.empty(0)
