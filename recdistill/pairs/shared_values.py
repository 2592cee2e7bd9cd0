"""Items that share rare values: tags, people, runs of words.

Shapes: I items, V distinct values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import SharedValuesConfig
from recdistill.pairs.found import Found, between_items
from recdistill.pairs.nearest import Neighbours, nearest
from recdistill.retrieval.overlap import Overlap


def of_like_values(
    config: SharedValuesConfig,
    catalogue: Catalogue,
    described: sparse.csr_matrix,
    *,
    seed: int,
    about: dict[str, Any] | None = None,
) -> Found:
    """Pairs of items by the values of ``described`` [I, V] that they share; score as in :func:`sharing`."""
    query, target, score = sharing(
        described,
        neighbours=config.neighbours,
        max_share=config.max_share,
        max_items=config.max_items,
        item_hashes=catalogue.hashes,
        seed=seed,
    )
    return between_items(catalogue.ids, query, target, score, about=about)


def sharing(
    described: sparse.csr_matrix,
    *,
    neighbours: int,
    max_share: float,
    max_items: int,
    item_hashes: np.ndarray,
    seed: int,
) -> Neighbours:
    """Each item with the most similar ones, by Jaccard weighted by inverse document frequency.

    A value of more than max_share · I or more than max_items items does not count at all. Time: the sum over values of
    their items squared. Memory: that of :func:`nearest`, and 40 bytes an entry of ``described``.

    Args:
        described: [I, V] 1 where an item has a value.
    """
    items = np.asarray(described.sum(axis=0)).ravel()
    # A share that is not whole is rounded up: in a tiny catalogue two items must be able to share a value.
    kept = items <= min(max(math.ceil(max_share * described.shape[0]), 2), max_items)
    rare = sparse.csr_matrix(described[:, np.flatnonzero(kept)])
    overlap = Overlap(rare)
    work = np.asarray(rare @ items[kept]).ravel()
    return nearest(overlap.similarity, work, neighbours=neighbours, item_hashes=item_hashes, seed=seed)
