"""``id_cluster``: items of one cluster of a teacher's space.

Shapes: I items.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.tables import EmbeddingTable
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import IdClusterConfig
from recdistill.pairs.found import Found, between_items, nothing
from recdistill.pairs.teacher_space import FEW, supported
from recdistill.retrieval.clusters import clusters
from recdistill.retrieval.hashing import mix


def id_cluster(config: IdClusterConfig, catalogue: Catalogue, teacher: EmbeddingTable, *, seed: int) -> Found:
    """Pairs of known items, partners drawn at random within a k-means cluster; without a score."""
    table = supported(teacher, catalogue, least=config.min_support)
    if len(table.ids) < 2:
        return nothing(catalogue.ids, FEW)
    cluster = clusters(table, catalogue.ids, count=config.clusters, seed=seed)
    query, target = partners(cluster, draw=mix(seed, catalogue.hashes), count=config.partners)
    return between_items(catalogue.ids, query, target, about={"clusters": len(np.unique(cluster[cluster >= 0]))})


def partners(cluster: np.ndarray, *, draw: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each item with up to ``count`` others of its cluster: those that follow it when the cluster stands in a ring.

    Args:
        cluster: [I], -1 = in none.
        draw: [I] uint64, by which a cluster's items are put in order.

    Returns:
        [P] query rows and [P] target rows; never an item with itself, no pair twice.
    """
    members = np.flatnonzero(cluster >= 0)
    members = members[np.lexsort((draw[members], cluster[members]))]
    _, start, size = np.unique(cluster[members], return_index=True, return_counts=True)
    first, size = np.repeat(start, size), np.repeat(size, size)
    place = np.arange(len(members)) - first
    queries, targets = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for step in range(1, count + 1):
        enough = np.flatnonzero(size > step)
        queries.append(members[enough])
        targets.append(members[(first + (place + step) % np.maximum(size, 1))[enough]])
    return np.concatenate(queries), np.concatenate(targets)
