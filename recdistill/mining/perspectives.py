"""The four perspectives (SAIL-Embedding, 2510.12709, 3.3.5): which candidates each keeps, and their order.

Every perspective drops candidates by one filter after the other, each with the reason why they fall out, and ranks
what is left; the best-ranked become the query.

Shapes: M entries of the block, T' its targets, I items, C clusters, R entries that are left.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import numpy as np

from recdistill.contracts.log import Log
from recdistill.mining.candidates import Block
from recdistill.mining.config import MiningConfig, Perspective
from recdistill.mining.draws import Draws, race
from recdistill.mining.knowledge import Knowledge
from recdistill.mining.order import best_per_owner, lower_is_better

_GATHERED = 1 << 11  # pairs of content vectors that are compared at once, in the processor's cache


class View:
    """A block's entries as the perspectives look at them; what several of them ask is computed once.

    Args:
        log: positive events only, or the user's shares of clusters would count what they saw and passed over.
    """

    def __init__(self, log: Log, block: Block, known: Knowledge) -> None:
        self.log, self.block, self.known = log, block, known
        self.owners = len(block.targets)

    @cached_property
    def item(self) -> np.ndarray:
        """[M] the candidate's item."""
        return np.asarray(self.log.item[self.block.event])

    @cached_property
    def behaviours(self) -> np.ndarray:
        """[M] the candidate's positive behaviours, counted."""
        return np.asarray(self.log.behaviour_count[self.block.event])

    @cached_property
    def likeness(self) -> np.ndarray:
        """[M] Jaccard similarity of the behaviours of candidate and target."""
        target = self.log.behaviours[self.block.targets][self.block.owner]
        return jaccard(self.log.behaviours[self.block.event], target)

    @cached_property
    def cluster(self) -> np.ndarray:
        """[M] the candidate's cluster, -1 = none."""
        return np.asarray(self.known.cluster[self.item])

    @cached_property
    def share(self) -> np.ndarray:
        """[T', C] the users' shares of clusters before the target."""
        return cluster_share(self.block.owner, self.cluster, self.known.clusters, self.owners)


class Sieve:
    """Candidates that are left, and why targets were lost.

    Attributes:
        rows, owner: [R] entries of the block and their owners, those of targets that still have a query.
        lost: reason → targets whose query it emptied.
    """

    def __init__(self, block: Block, *, min_length: int) -> None:
        self.rows, self.owner = np.arange(len(block.owner)), block.owner
        self.lost: Counter[str] = Counter()
        self._min_length = min_length
        self._alive = np.ones(len(block.targets), dtype=bool)
        self._settle("too few earlier items")

    def keep(self, reason: str, passes: np.ndarray) -> None:
        """Drop the entries that do not pass ([R] bool), and with them the targets that are left with too few."""
        if passes.all():
            return
        self.rows, self.owner = self.rows[passes], self.owner[passes]
        self._settle(reason)

    def _settle(self, reason: str) -> None:
        alive = np.bincount(self.owner, minlength=len(self._alive)) >= self._min_length
        gone = self._alive & ~alive
        if not gone.any():
            return
        self.lost[reason] += int(gone.sum())
        self._alive = alive
        left = alive[self.owner]
        self.rows, self.owner = self.rows[left], self.owner[left]


def judge(
    perspective: Perspective, view: View, config: MiningConfig, draws: Draws, *, kinds: int
) -> tuple[np.ndarray, Counter[str]]:
    """Choose the queries of a block's targets from one perspective.

    Args:
        kinds: kinds of positive behaviour in the whole log.

    Returns:
        the entries of the block that are the queries, ascending (so by target, then time), and the targets lost.
    """
    single = perspective in ("content_single_peak", "collaborative_single_peak")
    needed = config.single_peak_needs(kinds) if single else config.multi_peak_behaviours
    sieve = Sieve(view.block, min_length=config.min_length)
    sieve.keep(f"fewer than {needed} positive behaviours", view.behaviours[sieve.rows] >= needed)
    if perspective == "content_single_peak":
        badness = _most_similar(view, sieve, least=config.content_similarity)
    else:
        if perspective != "collaborative_multi_peak":
            sieve.keep("behaviours disagree with the target's", view.likeness[sieve.rows] > config.jaccard)
        if perspective != "content_multi_peak":
            sieve.keep("no ID vector", view.cluster[sieve.rows] >= 0)
        if perspective == "collaborative_single_peak":
            carrying = carrying_clusters(view.share, coverage=config.coverage)
            sieve.keep(
                "outside the clusters that carry the user's interactions",
                carrying[sieve.owner, view.cluster[sieve.rows]],
            )
        states = draws.targets(perspective, view.block.targets)
        badness = draws.draw(states, sieve.owner, view.item[sieve.rows])
        if perspective == "collaborative_multi_peak":
            badness = race(badness, _weights(view, sieve))
    best = best_per_owner(sieve.owner, badness, owners=view.owners, count=config.length)
    return np.sort(sieve.rows[best]), sieve.lost


def _most_similar(view: View, sieve: Sieve, *, least: float) -> np.ndarray:
    """[R] uint32, lower is more similar to the target."""
    target = view.log.item[view.block.targets]
    has = view.known.has_content
    sieve.keep("no content vector", has[view.item[sieve.rows]] & has[target][sieve.owner])
    score = similarity(view.known.content, view.item[sieve.rows], target[sieve.owner])
    if least > -1:
        passes = score >= least
        rows = sieve.rows
        sieve.keep("content less similar to the target's than asked", passes)
        score = score[np.searchsorted(rows, sieve.rows)]
    return lower_is_better(score)


def _weights(view: View, sieve: Sieve) -> np.ndarray:
    """[R] a cluster is drawn in proportion to the user's share, then an item of it evenly."""
    cluster = view.cluster[sieve.rows]
    left = cluster_share(sieve.owner, cluster, view.known.clusters, view.owners, normalise=False)
    return np.asarray(view.share[sieve.owner, cluster] / left[sieve.owner, cluster])


def similarity(content: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[R] float32 inner products of rows ``a`` and ``b`` of the content vectors.

    Memory: 8 · d · 2048 bytes beside the result.
    """
    score = np.empty(len(a), dtype=np.float32)
    for first in range(0, len(a), _GATHERED):
        part = slice(first, first + _GATHERED)
        np.einsum("md,md->m", content[a[part]], content[b[part]], out=score[part])
    return score


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[M] Jaccard similarity of label sets given as bit masks (0 when both are empty)."""
    union = np.bitwise_count(a | b)
    return np.bitwise_count(a & b) / np.maximum(union, 1)


def cluster_share(
    owner: np.ndarray, cluster: np.ndarray, clusters: int, owners: int, *, normalise: bool = True
) -> np.ndarray:
    """[owners, clusters] share (or count) of each owner's entries in each cluster; entries without one are left out."""
    has = cluster >= 0
    if not has.all():
        owner, cluster = owner[has], cluster[has]
    counts = np.bincount(owner * clusters + cluster, minlength=owners * clusters).reshape(owners, clusters)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalise else counts


def carrying_clusters(share: np.ndarray, *, coverage: float) -> np.ndarray:
    """[owners, C] bool: the smallest set of largest clusters whose shares sum to ``coverage``."""
    order = np.argsort(-share, axis=1, kind="stable")
    ranked = np.take_along_axis(share, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    carrying = np.zeros(share.shape, dtype=bool)
    np.put_along_axis(carrying, order, (before < coverage) & (ranked > 0), axis=1)
    return carrying
