"""Items that meet in the same groups (users, sessions, queries) more often than chance would have it.

Shapes: G groups, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import TogetherConfig
from recdistill.pairs.found import Found, between_items
from recdistill.pairs.nearest import Neighbours, nearest
from recdistill.retrieval.incidence import incidence


def met_in_groups(
    config: TogetherConfig,
    catalogue: Catalogue,
    *,
    group: np.ndarray,
    item: np.ndarray,
    group_hashes: np.ndarray,
    seed: int,
    about: dict[str, Any] | None = None,
) -> Found:
    """Pairs of items by the groups in which they met; score: shrunk NPMI (:func:`associated`).

    Args:
        group, item: [n] rows of the groups and of the catalogue, one an event.
        group_hashes: [G] uint64, the same however the groups are numbered.
        about: more for the summary.
    """
    matrix = incidence(
        group, item, group_hashes=group_hashes, item_hashes=catalogue.hashes, most=config.max_per_group, seed=seed
    )
    query, target, score = associated(
        matrix,
        neighbours=config.neighbours,
        min_together=config.min_together,
        shrinkage=config.shrinkage,
        item_hashes=catalogue.hashes,
        seed=seed,
    )
    return between_items(catalogue.ids, query, target, score, about=about)


def associated(
    incidence: sparse.csr_matrix,
    *,
    neighbours: int,
    min_together: int,
    shrinkage: float,
    item_hashes: np.ndarray,
    seed: int,
) -> Neighbours:
    """Each item with those of the highest normalised PMI (Bouma, GSCL 2009), shrunk where few groups prove it.

    With n_ij groups that have both, of G that have any item: NPMI = log(n_ij·G / (n_i·n_j)) / −log(n_ij / G), times
    n_ij / (n_ij + shrinkage). It is the lift on a scale from 0 (chance) to 1 (always together): unlike the plain count
    n_ij it does not measure popularity.

    Memory: that of :func:`nearest`, and 24 bytes an entry of the incidence.

    Args:
        incidence: [G, I] 1 where a group has an item.
        min_together: least n_ij.
    """
    groups = int((np.diff(incidence.indptr) > 0).sum())
    support = np.asarray(incidence.sum(axis=0)).ravel()
    by_item = sparse.csr_matrix(incidence.T)
    work = np.asarray(by_item @ np.diff(incidence.indptr)).ravel()

    def scores(rows: np.ndarray) -> sparse.csr_matrix:
        together = sparse.csr_matrix(by_item[rows] @ incidence)
        count = together.data
        own = np.repeat(support[rows], np.diff(together.indptr))
        lift = np.log(count * groups / (own * support[together.indices]))
        # Items of every group meet always, and no more than chance would have it.
        surprise = np.maximum(np.log(groups / count), 1e-12)
        score = np.where(count >= min_together, lift / surprise * count / (count + shrinkage), 0.0)
        together.data = np.where(count < groups, score, 0.0)
        return together

    return nearest(scores, work, neighbours=neighbours, item_hashes=item_hashes, seed=seed)
