"""The best entries of each row of a sparse matrix, block by block.

Shapes: I items, M entries of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

from recdistill.retrieval.cases import positions
from recdistill.retrieval.hashing import mix

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]  # [P] query rows, [P] target rows, [P] scores
_ENTRIES = 4_000_000  # of a block


def nearest(
    scores: Callable[[np.ndarray], sparse.csr_matrix],
    work: np.ndarray,
    *,
    neighbours: int,
    item_hashes: np.ndarray,
    seed: int,
) -> Neighbours:
    """Each item with its best other items of a positive score; equal ones by a draw of (seed, item, item).

    Memory: about 60 bytes an entry of a block of 4 million entries (or of one row, if that has more), and 24 a pair.

    Args:
        scores: gives the [Q, I] scores of item rows [Q].
        work: [I] a bound on each row's entries.
        item_hashes: [I] uint64.

    Returns:
        the pairs, by query.
    """
    found: list[Neighbours] = []
    for rows in _blocks(work):
        block = scores(rows)
        query = np.repeat(rows, np.diff(block.indptr))
        target, score = block.indices.astype(np.int64), block.data
        kept = (score > 0) & (query != target)
        query, target, score = query[kept], target[kept], score[kept]
        draw = mix(seed, item_hashes[query], item_hashes[target])
        order = np.lexsort((draw, -score, query))
        best = order[positions(query[order]) < neighbours]
        found.append((query[best], target[best], score[best]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    query, target, score = (np.concatenate(part) for part in zip(*found, strict=True))
    return query, target, score


def _blocks(work: np.ndarray) -> Iterator[np.ndarray]:
    """Rows with work, in runs of about ``_ENTRIES`` each."""
    rows = np.flatnonzero(work > 0)
    done = np.cumsum(work[rows])
    first = 0
    while first < len(rows):
        before = done[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(done, before + _ENTRIES, side="right")))
        yield rows[first:stop]
        first = stop
