"""I2i benchmarks: pairs of items that a judge finds near.

Shapes: J judged items, I items of the catalogue, Q query items, P pairs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from recdistill.evaluation.benchmarks.judge import Judge
from recdistill.retrieval.cases import positions
from recdistill.retrieval.hashing import hash_ids, mix
from recdistill.retrieval.overlap import Overlap
from recdistill.retrieval.ranks import topk

Pairs = tuple[np.ndarray, np.ndarray]  # [P] query rows and [P] target rows of the catalogue
_BLOCK_NUMBERS = 20_000_000


def gid_pairs(judge: Judge, item_ids: pd.Index, *, neighbours: int, max_queries: int, seed: int) -> Pairs:
    """Each judged item with its nearest in the judge's ID space (METHOD 5, Gid-i2i)."""
    placed = np.flatnonzero(np.abs(judge.vectors).sum(axis=1) > 0)
    if len(placed) < 2:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    items = judge.items[placed]
    query = _draw(item_ids[items], max_queries, seed)
    vectors = torch.from_numpy(judge.vectors[placed])
    near, _ = topk(vectors[query], vectors, k=min(neighbours, len(placed) - 1), own=torch.from_numpy(query))
    return np.repeat(items[query], near.shape[1]), items[near.numpy().ravel()]


def copairs(
    judge: Judge, item_ids: pd.Index, *, neighbours: int, max_queries: int, min_together: int, by_lift: bool, seed: int
) -> Pairs:
    """Each item with those most co-consumed by the users of the judge window (METHOD 5, Copair-i2i).

    Args:
        min_together: users behind a pair.
        by_lift: order by lift n_ij·U / (n_i·n_j); the plain count n_ij measures popularity.
    """
    count = judge.together.tocoo()
    enough = count.data >= min_together
    row, column, strength = count.row[enough], count.col[enough], count.data[enough]
    if not len(row):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if by_lift:
        strength = strength * judge.users / (judge.support[row] * judge.support[column])
    hashes = hash_ids(item_ids[judge.items])
    order = np.lexsort((mix(seed, hashes[row], hashes[column]), -strength, row))
    row, column = row[order], column[order]
    first = positions(row) < neighbours
    row, column = row[first], column[first]
    asked = np.unique(row)
    drawn = np.isin(row, asked[_draw(item_ids[judge.items[asked]], max_queries, seed)])
    return judge.items[row[drawn]], judge.items[column[drawn]]


def content_pairs(
    described: sparse.csr_matrix, item_ids: pd.Index, *, neighbours: int, max_queries: int, seed: int
) -> Pairs:
    """Each item with those of the most similar labels: Jaccard weighted by inverse document frequency.

    Ties (items of the same labels) are broken by a draw. Memory: 8 bytes × 20 million, or × 2·I if that is more.

    Args:
        described: [I, T] 1 where an item has a label.
    """
    overlap = Overlap(described)
    labelled = np.flatnonzero(overlap.total > 0)
    hashes = hash_ids(item_ids)
    asked = labelled[_draw(item_ids[labelled], max_queries, seed)]
    neighbours = min(neighbours, len(item_ids) - 1)
    queries, targets = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for query in np.array_split(asked, max(1, len(asked) * len(item_ids) // _BLOCK_NUMBERS)):
        if not len(query):
            continue
        similar = overlap.similarity(query).toarray()
        similar[np.arange(len(query)), query] = 0
        tie = mix(seed, hashes[query][:, None], hashes[None, :]) / 2.0**64
        near = np.argpartition(-(similar + 1e-9 * tie), neighbours - 1, axis=1)[:, :neighbours]
        row, place = np.nonzero(np.take_along_axis(similar, near, axis=1) > 0)
        queries.append(query[row])
        targets.append(near[row, place])
    return np.concatenate(queries), np.concatenate(targets)


def _draw(ids: pd.Index, count: int, seed: int) -> np.ndarray:
    """Rows of at most ``count`` ids, drawn by (seed, id), ascending."""
    return np.sort(np.argsort(mix(seed, hash_ids(ids)), kind="stable")[:count])
