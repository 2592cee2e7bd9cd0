"""The judge's ID space: built from interactions that no teacher or student saw.

Shapes: U users, I items, J judged items, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from recdistill.contracts.log import Log
from recdistill.evaluation.config import JudgeConfig
from recdistill.retrieval.hashing import hash_ids
from recdistill.retrieval.incidence import incidence

# The judge's draws differ from those of whatever was trained with the run's seed.
JUDGE_SEED = 7_919


@dataclass(frozen=True)
class Judge:
    """Co-consumption in the judge window.

    Attributes:
        items: [J] rows of the catalogue, ascending.
        support: [J] users who were positive about each.
        together: [J, J] float64 sparse, users who were positive about both; no diagonal.
        users: U, users with a positive.
        vectors: [J, d] float32 unit vectors; zero where an item met no other more than chance would have it.
    """

    items: np.ndarray
    support: np.ndarray
    together: sparse.csr_matrix
    users: int
    vectors: np.ndarray


def judge(config: JudgeConfig, log: Log, *, min_support: int, min_positive: int, seed: int) -> Judge:
    """Build the judge space by truncated SVD of shifted positive PMI (Levy and Goldberg, NeurIPS 2014, section 3.2).

    Memory: 12 bytes per pair of items of one user, at most 6·U·max_per_user², and 8·J·d.

    Args:
        log: the judge window.
        min_support: users behind a judged item.
        min_positive: behaviours that make an event positive.
    """
    matrix = _positives(config, log, min_positive=min_positive, seed=seed)
    support = np.asarray(matrix.sum(axis=0)).ravel()
    items = np.flatnonzero(support >= min_support)
    if len(items) > config.max_items:
        items = np.sort(items[np.argsort(-support[items], kind="stable")[: config.max_items]])
    kept = matrix[:, items]
    together = sparse.csr_matrix(kept.T @ kept)
    together.setdiag(0)
    together.eliminate_zeros()
    vectors = sppmi_vectors(together, dim=config.dim, shift=config.shift, seed=seed + JUDGE_SEED)
    users = int((np.diff(matrix.indptr) > 0).sum())
    return Judge(items, support[items], together, users, vectors)


def sppmi_vectors(together: sparse.csr_matrix, *, dim: int, shift: float, seed: int) -> np.ndarray:
    """Unit vectors U·√S of max(PMI − log shift, 0).

    Args:
        together: [J, J] symmetric counts.

    Returns:
        [J, min(dim, J − 1)] float32.
    """
    count = together.tocoo()
    marginal = np.asarray(together.sum(axis=0)).ravel()
    pmi = np.log(count.data * marginal.sum() / (marginal[count.row] * marginal[count.col])) - np.log(shift)
    positive = pmi > 0
    matrix = sparse.csr_matrix((pmi[positive], (count.row[positive], count.col[positive])), together.shape)
    width = min(dim, together.shape[0] - 1)
    if width < 1 or not matrix.nnz:
        return np.zeros((together.shape[0], 1), dtype=np.float32)
    left, values, _ = randomized_svd(matrix, width, random_state=seed)
    vectors = left * np.sqrt(values)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _positives(config: JudgeConfig, log: Log, *, min_positive: int, seed: int) -> sparse.csr_matrix:
    """[U, I] float64, 1 for a user's positives, at most ``max_per_user`` of them, drawn by (seed, user, item)."""
    rows = log.positive(min_positive)
    return incidence(
        log.user[rows],
        log.item[rows],
        group_hashes=hash_ids(log.user_ids),
        item_hashes=hash_ids(log.item_ids),
        most=config.max_per_user,
        seed=seed + JUDGE_SEED,
    )
