"""How far a teacher's row may be trusted: by what stands behind it, or by what two halves of the users agree on.

Shapes: U users, V vocabulary items, n positives, R references, d width.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.extmath import randomized_svd

from recdistill.errors import UserError
from recdistill.retrieval.hashing import hash_ids, mix
from recdistill.teachers.ials import interactions
from recdistill.teachers.positives import Positives

# Added to every item's support before its column is scaled: else items of one or two users own the leading directions.
_SMOOTHING = 5.0
_BLOCK = 4_096  # items compared with the references at once


def confidence_of(support: np.ndarray, *, prior: float) -> np.ndarray:
    """[n] float32 n / (n + prior), 0 where nothing stands behind a vector."""
    return (support / np.maximum(support + prior, 1)).astype(np.float32)


def halves_confidence(
    positives: Positives, *, dim: int, neighbours: int, references: int, splits: int, prior: float, seed: int
) -> np.ndarray:
    """How far the neighbours of each item agree between two random halves of the users.

    Each half gives an item space of its own (a truncated SVD, see ``_space``). With o the share of an item's k nearest
    references in the one half that are among its k nearest in the other, the item's agreement is a = (o − c) / (1 − c),
    where c = k / R is what strangers share by chance. Over s splits that met the item in both halves

        r = (Σ a + prior · f(support)) / (s + prior),    confidence = 2r / (1 + r),

    f being the isotonic regression of a on support, anchored at 0 for no support, so that an item met in one half only
    gets f; the last step is Spearman's and Brown's (1910), since a teacher learns from twice the data of a half.
    Unlike n / (n + prior), it sees that an item is liked by all kinds of people, of whom its vector is a mere average.
    It measures the data, not a teacher, and is the same for all of them; the splits are draws from the same users,
    so more of them take away the noise of splitting and nothing else.

    Time splits · (n·d + V·R·d); memory 16·n + 12·(U + V)·(d + 10) + 20·4096·R bytes. It depends on neither the order
    of users nor that of items, but on their ids.

    Args:
        dim: d, at most; a half of fewer users or items has fewer.
        neighbours: k.
        references: R, at most: items met in both halves, drawn at random, that all items are compared with.
        splits: how often the users are halved.
        prior: splits that f counts for.

    Returns:
        [V] float32 in [0, 1]; 0 for an item without a positive.

    Raises:
        UserError: a split has no more than 2k items that both halves know.
    """
    support = positives.support.numpy()
    users, items = hash_ids(positives.user_ids), hash_ids(positives.item_ids)
    # In the order of the hashes the numbers come out the same whatever order users and items are given in.
    by_user, by_item = np.argsort(mix(seed, users), kind="stable"), np.argsort(mix(seed, items), kind="stable")
    matrix = interactions(positives)[by_user][:, by_item]
    matrix.sort_indices()
    met, total = np.zeros(len(items)), np.zeros(len(items))
    for split in range(splits):
        first = (mix(seed, users[by_user], np.array([split])) & np.uint64(1)).astype(bool)
        halves = matrix[first], matrix[~first]
        common = np.flatnonzero((_support(halves[0]) > 0) & (_support(halves[1]) > 0))
        if len(common) <= 2 * neighbours:
            raise UserError(
                f"teachers.confidence: halves: only {len(common)} items have positives of both halves of the users, "
                f"too few to tell {neighbours} neighbours from others",
                remedy="lower teachers.halves.neighbours, or set teachers.confidence to support",
            )
        # Seeds of their own: what the iteration has not settled would else be the same noise in both.
        spaces = [_space(half, dim=dim, seed=2 * split + which)[common] for which, half in enumerate(halves)]
        total[by_item[common]] += _agreement(*spaces, neighbours=neighbours, references=references)
        met[by_item[common]] += 1
    seen = met > 0
    expected = _by_support(support, total[seen] / met[seen], seen=seen, weights=met[seen])
    agreement = np.where(seen, (total + prior * expected) / np.maximum(met + prior, 1), expected).clip(0, 1)
    agreement[support == 0] = 0
    return (2 * agreement / (1 + agreement)).astype(np.float32)


def _support(half: sparse.csr_matrix) -> np.ndarray:
    """[V] positives of each item."""
    return np.bincount(half.indices, minlength=half.shape[1])


def _space(half: sparse.csr_matrix, *, dim: int, seed: int) -> np.ndarray:
    """[V, ≤ dim] float32 unit item vectors: right singular vectors, scaled, of a matrix normalised by both degrees.

    The leading one is left out: it is popularity (Dhillon, KDD 2001, section 4).
    """
    users = np.maximum(np.diff(half.indptr), 1)
    scaled = sparse.diags((users**-0.5).astype(np.float32)) @ half
    scaled = (scaled @ sparse.diags(((_support(half) + _SMOOTHING) ** -0.5).astype(np.float32))).tocsr()
    width = min(dim + 1, *half.shape)
    _, values, directions = randomized_svd(scaled, width, n_iter=4, random_state=seed)
    vectors = (directions[1:] * values[1:, None]).T
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _agreement(first: np.ndarray, second: np.ndarray, *, neighbours: int, references: int) -> np.ndarray:
    """[m] chance-corrected shares of common neighbours, for m items in two spaces; the first items are references."""
    references = min(references, len(first))
    shared = np.empty(len(first))
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = [_nearest(space, rows, neighbours=neighbours, references=references) for space in (first, second)]
        shared[rows] = (near[0] & near[1]).sum(axis=1) / neighbours
    chance = neighbours / references
    return (shared - chance) / (1 - chance)


def _nearest(space: np.ndarray, rows: slice, *, neighbours: int, references: int) -> np.ndarray:
    """[b, R] bool: the k references of the highest cosine, if above 0; no item is its own neighbour."""
    cosines = space[rows] @ space[:references].T
    own = np.arange(rows.start, min(rows.start + len(cosines), references))
    cosines[own - rows.start, own] = -np.inf
    near = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
    marks = np.zeros(cosines.shape, dtype=bool)
    np.put_along_axis(marks, near, True, axis=1)
    return marks & (cosines > 0)


def _by_support(support: np.ndarray, agreement: np.ndarray, *, seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[V] what an item of that support agrees on, as a rule; 0 for none."""
    rule = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    rule.fit(np.append(support[seen], 0), np.append(agreement, 0.0), sample_weight=np.append(weights, 1.0))
    return np.asarray(rule.predict(support))
