"""What a level added to every new item's score does to each question: all levels in one pass.

Items absent from training ("new") know no popularity, and sink or float as a block: a matter of level, not of
direction. Let δ, the *new-item level*, be added to the score of each. The rank of a target is then a step function of
δ, so a question is answered within the first k below one critical level (a known target) or above it (a new one).

Shapes: C cases, Q queries, I items, K cutoffs, E excluded (case, item) pairs, M places of a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.retrieval.cases import Cases
from recdistill.retrieval.exact import exact_bits, to_grid
from recdistill.retrieval.ranks import cases_of, mean_query, pairs_of

# Scores [B, I] of the queries of a slice, and what one of their units is worth ([B, 1]).
Scores = Callable[[slice], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Crossings:
    """Where the level changes something.

    Attributes:
        cutoffs: K.
        new: [C] bool: the target is a new item.
        critical: [C, K] float64: a known target is among the first k below this level, a new one above it; ±inf where
            the level changes nothing.
        inclusive: [C, K] bool: at the critical level itself it is (ties count half).
        entries: [C, M] float64 ascending levels above which one more of the list's first M places is a new item's;
            inf where there is no such item.
    """

    cutoffs: tuple[int, ...]
    new: np.ndarray
    critical: np.ndarray
    inclusive: np.ndarray
    entries: np.ndarray

    def hits(self, level: float, cutoff: int) -> np.ndarray:
        """[C] bool: the target is among the first ``cutoff`` at that level."""
        at = self.cutoffs.index(cutoff)
        critical = self.critical[:, at]
        beyond = np.where(self.new, level > critical, level < critical)
        return np.asarray(beyond | ((level == critical) & self.inclusive[:, at]))

    def share(self, level: float) -> float:
        """Share of the first M places that new items hold at that level, over all questions."""
        return float(np.mean(self.entries < level)) if self.entries.size else math.nan

    def level_of_share(self, share: float) -> float:
        """The level, between two entries, at which new items hold nearest to that share of places.

        ``share`` 0 gives a level below every entry, 1 one above every entry.
        """
        finite, count = np.unique(self.entries[np.isfinite(self.entries)], return_counts=True)
        if not len(finite):
            return 0.0
        bounds = np.concatenate([[finite[0] - 1.0], finite, [finite[-1] + 1.0]])
        held = np.sum(self.entries == -np.inf) + np.concatenate([[0], np.cumsum(count)])
        at = int(np.argmin(np.abs(held - share * self.entries.size)))
        return float((bounds[at] + bounds[at + 1]) / 2)


def with_level(vectors: Tensor, level: Tensor) -> Tensor:
    """[n, d] and [n] → [n, d + 1]: levels as one more coordinate of items, against which every query has 1.

    So a dot product serves them. A query made of items is made of their first d coordinates, and then gets its 1: their
    levels say nothing of the user.
    """
    return torch.cat([vectors, level.to(vectors.dtype).unsqueeze(1)], dim=1)


def vector_scores(queries: Tensor, items: Tensor) -> Scores:
    """Exact dot products of [Q, d] and [I, d], as :mod:`recdistill.retrieval.exact` says."""
    query_bits, item_bits = exact_bits(items.shape[1])
    grid, step = to_grid(items, item_bits, dim=None)
    columns = grid.T.contiguous()

    def score(rows: slice) -> tuple[Tensor, Tensor]:
        asked, unit = to_grid(queries[rows], query_bits, dim=1)
        return asked @ columns, unit * step

    return score


def case_crossings(
    vectors: np.ndarray,
    cases: Cases,
    *,
    new: np.ndarray,
    cutoffs: tuple[int, ...],
    places: int,
    cosine: bool = True,
    present: np.ndarray | None = None,
    level: np.ndarray | None = None,
) -> Crossings:
    """:func:`crossings` of item vectors ([I, d]; a query is the mean of its items'), by cosine or dot product.

    Args:
        level: [I] what is added to each item's score beforehand, None = nothing.
    """
    matrix = torch.from_numpy(np.ascontiguousarray(vectors)).double()
    matrix = normalize(matrix, dim=1) if cosine else matrix
    queries = mean_query(matrix, torch.from_numpy(cases.query))
    if level is not None:
        matrix = with_level(matrix, torch.from_numpy(level))
        queries = with_level(queries, queries.new_ones(len(queries)))
    return crossings(
        vector_scores(queries, matrix),
        torch.from_numpy(cases.target),
        new=torch.from_numpy(new),
        cutoffs=cutoffs,
        places=places,
        asker=torch.arange(len(cases)),
        exclude_offsets=torch.from_numpy(cases.exclude_offsets),
        exclude_items=torch.from_numpy(cases.exclude_items),
        present=torch.from_numpy(np.ones(len(vectors), dtype=bool) if present is None else present),
    )


def crossings(
    score: Scores,
    targets: Tensor,
    *,
    new: Tensor,
    cutoffs: tuple[int, ...],
    places: int,
    asker: Tensor,
    exclude_offsets: Tensor,
    exclude_items: Tensor,
    present: Tensor,
    block: int = 256,
) -> Crossings:
    """The critical levels of every question.

    Memory: 32·block·I bytes beside what ``score`` takes, 24·C·(K + M) bytes.

    Args:
        score: gives its own float matrix, to change.
        targets: [C] item rows.
        new: [I] bool: the items that the level lifts.
        cutoffs: k of interest; each at least 1.
        places: M, of a list whose share of new items is asked for.
        asker: [C] query of each case, ascending.
        exclude_offsets, exclude_items: [C + 1], [E] items that are no candidates; a target takes part nonetheless.
        present: [I] bool: items that can be scored; the others stand below them at every level, tied.
        block: queries at once; it cannot change the result.
    """
    count = len(targets)
    critical = torch.zeros(count, len(cutoffs), dtype=torch.float64)
    inclusive = torch.zeros(count, len(cutoffs), dtype=torch.bool)
    entries = torch.full((count, places), math.inf, dtype=torch.float64)
    sides = [torch.nonzero(present & (new == side)).squeeze(1) for side in (False, True)]
    absent = torch.nonzero(~present).squeeze(1)
    for start in range(0, int(asker[-1]) + 1 if count else 0, block):
        cases = cases_of(asker, start, start + block)
        rows = asker[cases] - start
        scores, unit = score(slice(start, start + block))
        matrix, unit = scores.double()[rows], unit.double()[rows]
        target = targets[cases]
        own = matrix.gather(1, target[:, None])
        case, item = pairs_of(cases, exclude_offsets, exclude_items.long())
        rival = item != target[case]
        matrix[case[rival], item[rival]] = -math.inf
        entries[cases] = _entries(matrix[:, sides[0]], matrix[:, sides[1]], places) * unit
        matrix.scatter_(1, target[:, None], -math.inf)  # no rival of itself
        for lifted, (same, other) in enumerate((sides, sides[::-1])):
            of = torch.nonzero((new[target] == bool(lifted)) & present[target]).squeeze(1)
            at, within = _critical(matrix[of][:, same], matrix[of][:, other], own[of], cutoffs)
            critical[cases.start + of] = (at if lifted else -at) * unit[of]
            inclusive[cases.start + of] = within
        # A target that cannot be scored ties with its like below all others, whatever the level.
        of = torch.nonzero(~present[target]).squeeze(1)
        if len(of):
            above = sum((matrix[of][:, side] > -math.inf).sum(dim=1) for side in sides)
            rank = 1 + above + (matrix[of][:, absent] > -math.inf).sum(dim=1) / 2
            always = rank[:, None] <= torch.tensor(cutoffs)
            critical[cases.start + of] = torch.where(always == new[target[of]][:, None], -math.inf, math.inf).double()
    return Crossings(cutoffs, new[targets].numpy(), critical.numpy(), inclusive.numpy(), entries.numpy())


def _critical(same: Tensor, other: Tensor, own: Tensor, cutoffs: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """[n, K] how far the other kind's decisive rival stands above the target, and whether its tie is a hit.

    A target may have k − 1 − (rivals of its own kind above it) of the other kind above it; the next one decides.
    """
    lead = 1 + (same > own).sum(dim=1) + (same == own).sum(dim=1) / 2
    depth = max(cutoffs) + 1
    best = torch.full((len(own), depth), -math.inf, dtype=torch.float64)
    found = min(depth, other.shape[1])
    best[:, :found] = other.topk(found, dim=1).values
    critical = torch.empty(len(own), len(cutoffs), dtype=torch.float64)
    inclusive = torch.zeros(len(own), len(cutoffs), dtype=torch.bool)
    for at, cutoff in enumerate(cutoffs):
        budget = cutoff - lead
        edge = best.gather(1, budget.floor().clamp(min=0).long()[:, None])
        critical[:, at] = torch.where(budget < 0, math.inf, (edge - own).squeeze(1))
        tied = (other > edge).sum(dim=1) + (other == edge).sum(dim=1) / 2
        inclusive[:, at] = (budget >= 0) & (tied <= budget)
    return critical, inclusive


def _entries(known: Tensor, new: Tensor, places: int) -> Tensor:
    """[n, M] levels at which the j-th best new item passes the known one that holds the list's j-th place from last."""

    def best(scores: Tensor) -> Tensor:
        top = torch.full((len(scores), places), -math.inf, dtype=torch.float64)
        found = min(places, scores.shape[1])
        top[:, :found] = scores.topk(found, dim=1).values
        return top

    held, coming = best(known).flip(1), best(new)
    return torch.where(coming == -math.inf, math.inf, held - coming)
