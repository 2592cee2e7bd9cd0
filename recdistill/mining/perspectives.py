"""The four perspectives (SAIL-Embedding, 2510.12709, 3.3.5): which candidates each keeps, and their order.

Every perspective takes a block's candidates and gives a list of filters, each with the reason why a candidate
falls out, and a score; the best-scored candidates that pass all filters become the query.

Shapes: M entries of the block, T' its targets, I items, C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.contracts.log import Log
from recdistill.mining.candidates import Block
from recdistill.mining.config import MiningConfig, Perspective


@dataclass(frozen=True)
class Knowledge:
    """What mining knows of items.

    Attributes:
        content: [I, d] float32 unit content vectors, zero where an item has none.
        cluster: [I] cluster of the item's ID vector, -1 where it has none.
    """

    content: np.ndarray
    cluster: np.ndarray


@dataclass(frozen=True)
class Choice:
    """A perspective's verdict on a block: filters in order as (reason, [M] bool passes), and [M] scores."""

    filters: list[tuple[str, np.ndarray]]
    score: np.ndarray


def choose(
    perspective: Perspective, log: Log, block: Block, known: Knowledge, config: MiningConfig, rng: np.random.Generator
) -> Choice:
    """Judge the block's candidates from one perspective.

    Args:
        log: positive events only, or the user's shares of clusters would count what they saw and passed over.
    """
    owner_target = block.targets[block.owner]
    item, target_item = log.item[block.event], log.item[owner_target]
    single = perspective in ("content_single_peak", "collaborative_single_peak")
    needed = config.single_peak_needs(len(log.behaviour_names)) if single else config.multi_peak_behaviours
    filters: list[tuple[str, np.ndarray]] = [
        (f"fewer than {needed} positive behaviours", log.behaviour_count[block.event] >= needed)
    ]
    consistent = jaccard(log.behaviours[block.event], log.behaviours[owner_target]) > config.jaccard
    noise = gumbel(len(item), rng)
    if perspective == "content_single_peak":
        has: np.ndarray = np.any(known.content, axis=1)
        filters.append(("no content vector", has[item] & has[target_item]))
        # A similarity costs a gather of two vectors: only where it counts.
        asked = np.flatnonzero(filters[0][1] & filters[1][1])
        score = np.full(len(item), -np.inf)
        score[asked] = np.einsum("md,md->m", known.content[item[asked]], known.content[target_item[asked]])
        return Choice(filters, score)
    if perspective == "content_multi_peak":
        filters.append(("behaviours disagree with the target's", consistent))
        return Choice(filters, noise)
    cluster = known.cluster[item]
    share = cluster_share(block.owner, cluster, known.cluster.max(initial=-1) + 1, len(block.targets))
    own_share = np.where(cluster >= 0, share[block.owner, cluster], 0)
    filters_cluster = [("no ID vector", cluster >= 0)]
    if perspective == "collaborative_single_peak":
        carrying = carrying_clusters(share, coverage=config.coverage)
        filters += [("behaviours disagree with the target's", consistent), *filters_cluster]
        filters.append(
            ("outside the clusters that carry the user's interactions", (cluster >= 0) & carrying[block.owner, cluster])
        )
        return Choice(filters, noise)
    filters += filters_cluster
    passing = np.logical_and.reduce([passes for _, passes in filters])
    # A cluster is drawn in proportion to the user's share, then an item of it evenly.
    within = cluster_share(block.owner[passing], cluster[passing], share.shape[1], len(block.targets), normalise=False)
    evenly = np.where(cluster >= 0, within[block.owner, cluster], 1)
    with np.errstate(divide="ignore"):
        return Choice(filters, np.log(own_share / np.maximum(evenly, 1)) + noise)


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[M] Jaccard similarity of label sets given as bit masks (0 when both are empty)."""
    union = np.bitwise_count(a | b)
    return np.bitwise_count(a & b) / np.maximum(union, 1)


def gumbel(count: int, rng: np.random.Generator) -> np.ndarray:
    """[count] standard Gumbel noise: the largest of ``log w + noise`` is a draw in proportion to w."""
    return rng.gumbel(size=count)


def cluster_share(
    owner: np.ndarray, cluster: np.ndarray, clusters: int, owners: int, *, normalise: bool = True
) -> np.ndarray:
    """[owners, clusters] share (or count) of each owner's entries in each cluster; entries without one are left out."""
    has = cluster >= 0
    counts = np.bincount(owner[has] * clusters + cluster[has], minlength=owners * clusters).reshape(owners, clusters)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalise else counts


def carrying_clusters(share: np.ndarray, *, coverage: float) -> np.ndarray:
    """[owners, C] bool: the smallest set of largest clusters whose shares sum to ``coverage``."""
    order = np.argsort(-share, axis=1, kind="stable")
    ranked = np.take_along_axis(share, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    carrying = np.zeros(share.shape, dtype=bool)
    np.put_along_axis(carrying, order, (before < coverage) & (ranked > 0), axis=1)
    return carrying
