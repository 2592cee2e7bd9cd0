"""Where the target stands among all items, without keeping users × items.

Scores are computed exactly: vectors are rounded to a grid on which float64 sums of products have no rounding error
(relative precision 2^-20 or better up to 4,096 dimensions, about that of float32). So equal vectors tie exactly, and
neither the block size, nor the order of rows, nor the machine's matmul kernel can change a rank.

Shapes: C cases, Q queries, I items, d width, E excluded (case, item) pairs, L query length.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.retrieval.cases import Cases
from recdistill.retrieval.exact import exact_bits, to_grid

_TILE_ROWS, _TILE_COLUMNS = 512, 1024  # a tile stays in the cores' caches between its passes


def mean_query(vectors: Tensor, query: Tensor) -> Tensor:
    """Mean vector of each query's items.

    Args:
        vectors: [I, d] item vectors.
        query: [C, L] item rows, -1 = padding.

    Returns:
        [C, d]; zero where a query has no item.
    """
    total = torch.zeros(len(query), vectors.shape[1], dtype=vectors.dtype)
    for rows in query.unbind(1):  # position by position: memory C × d, and one order of summation for every block size
        total += vectors[rows.clamp(min=0)] * (rows >= 0).unsqueeze(1)
    return total / (query >= 0).sum(dim=1, keepdim=True).clamp(min=1)


def target_ranks(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    asker: Tensor | None = None,
    exclude_offsets: Tensor | None = None,
    exclude_items: Tensor | None = None,
    candidates: Tensor | None = None,
    present: Tensor | None = None,
    block: int = 2048,
) -> Tensor:
    """1-based rank of each target by dot product: 1 + #greater + #equal others / 2 (mean rank on ties).

    Memory: 16·I·d + 8·512·(1024 + 2·d) bytes, and 80 bytes a pair that 512 queries exclude.

    Args:
        queries: [Q, d] finite.
        items: [I, d] finite.
        targets: [C] item rows.
        asker: [C] query that asks for each target, ascending; None = each query for one target (Q = C). Targets of
            one query share its scores.
        exclude_offsets: [C + 1] case c excludes ``exclude_items[exclude_offsets[c]:exclude_offsets[c + 1]]``.
        exclude_items: [E] item rows, unique in a case; a target that excludes itself still takes part.
        candidates: [I] bool: the items ranked, None = all. A target takes part even if it is none.
        present: [I] bool: items that have a vector, None = all. The others stand below them, tied among themselves.
        block: queries at once; it cannot change the result.

    Returns:
        [C] float64 ranks, multiples of 1/2.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """
    asker = torch.arange(len(queries)) if asker is None else asker
    if items.shape[1] != queries.shape[1] or len(targets) != len(asker):
        raise ValueError(f"queries {tuple(queries.shape)}, items {tuple(items.shape)}, targets {tuple(targets.shape)}")
    field = _Field(targets, candidates, present, catalogue=len(items))
    query_bits, item_bits = exact_bits(items.shape[1])
    grid, _ = to_grid(items, item_bits, dim=None)
    columns = torch.nonzero(field.scored).squeeze(1)
    tiles = [grid[part].T.contiguous() for part in columns.split(_TILE_COLUMNS)]
    place = torch.full((len(items),), -1, dtype=torch.long)
    place[columns] = torch.arange(len(columns))
    offsets = torch.zeros(len(targets) + 1, dtype=torch.long) if exclude_offsets is None else exclude_offsets
    members = torch.zeros(0, dtype=torch.long) if exclude_items is None else exclude_items.long()
    step = min(block, _TILE_ROWS)
    # One buffer for all tiles: fresh pages for each would cost more than the sums.
    memory = torch.empty(step * _TILE_COLUMNS, dtype=torch.float64)
    for start in range(0, len(queries), step):
        rows, _ = to_grid(queries[start : start + step], query_bits, dim=1)  # its scale cannot change a query's ranking
        cases = cases_of(asker, start, start + len(rows))
        asking = asker[cases] - start
        own = (rows[asking] * grid[targets[cases]]).sum(dim=1)
        case, item = pairs_of(cases, offsets, members)
        excluded = _Excluded(asking[case], place[item], tiles=len(tiles))
        for number, tile in enumerate(tiles):
            scores = memory[: len(rows) * tile.shape[1]].view(len(rows), tile.shape[1])
            torch.mm(rows, tile, out=scores)
            excluded.look_up(scores, number)
            _count(scores, asking, own, field.lead[cases], weights=None)
        field.exclude(case + cases.start, item, excluded.scores - own[case])
    return field.ranks()


class _Excluded:
    """Scores of a block's excluded pairs, picked from its tiles as they pass.

    Args:
        rows: [e] row of the block's scores.
        places: [e] column of all tiles together, -1 for items that are not scored.
        tiles: number of tiles.

    Attributes:
        scores: [e] float64, zero for items that are not scored.
    """

    def __init__(self, rows: Tensor, places: Tensor, *, tiles: int) -> None:
        self.scores = torch.zeros(len(rows), dtype=torch.float64)
        tile = torch.div(places, _TILE_COLUMNS, rounding_mode="floor")
        self._order = torch.argsort(tile)
        self._rows, self._columns = rows[self._order], places[self._order] % _TILE_COLUMNS
        self._bounds: list[int] = torch.searchsorted(tile[self._order], torch.arange(tiles + 1)).tolist()

    def look_up(self, scores: Tensor, tile: int) -> None:
        here = slice(self._bounds[tile], self._bounds[tile + 1])
        self.scores[self._order[here]] = scores[self._rows[here], self._columns[here]]


def ranks_of_scores(
    score: Callable[[slice], Tensor],
    targets: Tensor,
    *,
    asker: Tensor,
    catalogue: int,
    exclude_offsets: Tensor | None = None,
    exclude_items: Tensor | None = None,
    candidates: Tensor | None = None,
    present: Tensor | None = None,
    block: int = 256,
) -> Tensor:
    """:func:`target_ranks` for a model that gives scores and not vectors, e.g. EASE.

    Memory: 8·block·I bytes beside what ``score`` takes.

    Args:
        score: gives the queries of a slice their finite scores of all items, [block, I] float32, its own to change.
        catalogue: I.

    Returns:
        [C] float64 ranks; independent of ``block`` as far as ``score`` is.
    """
    field = _Field(targets, candidates, present, catalogue=catalogue)
    weights = field.scored.float()
    offsets = torch.zeros(len(targets) + 1, dtype=torch.long) if exclude_offsets is None else exclude_offsets
    members = torch.zeros(0, dtype=torch.long) if exclude_items is None else exclude_items.long()
    for start in range(0, int(asker[-1]) + 1 if len(asker) else 0, block):
        cases = cases_of(asker, start, start + block)
        rows = asker[cases] - start
        scores = score(slice(start, start + block))
        own = scores[rows, targets[cases]]
        case, item = pairs_of(cases, offsets, members)
        difference = scores[rows[case], item] - own[case]
        _count(scores, rows, own, field.lead[cases], weights=weights)
        field.exclude(case + cases.start, item, difference)
    return field.ranks()


def _count(scores: Tensor, rows: Tensor, own: Tensor, lead: Tensor, *, weights: Tensor | None) -> None:
    """Add to each case's ``lead`` the items above less those below its target; ``scores`` is used up.

    Args:
        scores: [B, M].
        rows: [c] row of scores of each case, ascending.
        own: [c] the target's score.
        lead: [c] float64.
        weights: [M] 0 for items that do not count, None = all count.
    """
    place = torch.arange(len(rows)) - torch.searchsorted(rows, rows)  # a row's first case, its second, …
    for at in range(int(place.max()) + 1 if len(rows) else 0):
        chosen = torch.nonzero(place == at).squeeze(1)
        above = scores if len(chosen) == len(rows) == len(scores) else scores[rows[chosen]]
        above.sub_(own[chosen].unsqueeze(1)).sign_()
        lead[chosen] += above.sum(dim=1) if weights is None else (above @ weights.to(above.dtype)).double()


class _Field:
    """Who competes with each target.

    Attributes:
        scored: [I] bool: candidates that can be scored.
        lead: [C] float64 how many of them stand above less how many below the target.
        others: [C] float64 how many they are, without the target.
    """

    def __init__(self, targets: Tensor, candidates: Tensor | None, present: Tensor | None, *, catalogue: int) -> None:
        every = torch.ones(catalogue, dtype=torch.bool)
        self._targets = targets
        self._candidates = every if candidates is None else candidates
        self._present = every if present is None else present
        self.scored = self._candidates & self._present
        absent = self._candidates & ~self._present
        self.lead = torch.zeros(len(targets), dtype=torch.float64)
        self.others = self.scored.sum() - self.scored[targets].double()
        self._absent_others = absent.sum() - absent[targets].double()

    def exclude(self, case: Tensor, item: Tensor, difference: Tensor) -> None:
        """Take excluded items out, given their score less the target's."""
        rival = self._candidates[item] & (item != self._targets[case])
        here = rival & self._present[item]
        self.lead.index_add_(0, case, -(difference.sign() * here).double())
        self.others.index_add_(0, case, -here.double())
        self._absent_others.index_add_(0, case, -(rival & ~here).double())

    def ranks(self) -> Tensor:
        lead = torch.where(self._present[self._targets], self.lead - self._absent_others, self.others)
        return 1 + (self.others + self._absent_others + lead) / 2


def cases_of(asker: Tensor, start: int, stop: int) -> slice:
    """The cases that the queries ``start`` to ``stop`` ask (``asker``: [C], ascending)."""
    low, high = torch.searchsorted(asker, torch.tensor([start, stop])).tolist()
    return slice(low, high)


def pairs_of(cases: slice, offsets: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """[e] case, counted from the slice's first, and [e] item of each pair that the cases exclude."""
    inside = offsets[cases.start : cases.stop + 1]
    case = torch.repeat_interleave(torch.arange(len(inside) - 1), inside[1:] - inside[:-1])
    return case, members[inside[0] : inside[-1]]


def case_ranks(
    vectors: np.ndarray,
    cases: Cases,
    *,
    cosine: bool = True,
    candidates: np.ndarray | None = None,
    present: np.ndarray | None = None,
) -> np.ndarray:
    """Ranks of the cases' targets by the mean vector of their query items.

    Args:
        vectors: [I, d] in the order of ``cases.item_ids``.
        cosine: score by cosine (queries are means of normalised vectors), else by dot product.
        candidates, present: [I] bool, as in :func:`target_ranks`.

    Returns:
        [C] float64.
    """
    matrix = torch.from_numpy(np.ascontiguousarray(vectors)).double()
    matrix = normalize(matrix, dim=1) if cosine else matrix
    queries = mean_query(matrix, torch.from_numpy(cases.query))
    return target_ranks(
        queries,
        matrix,
        torch.from_numpy(cases.target),
        exclude_offsets=torch.from_numpy(cases.exclude_offsets),
        exclude_items=torch.from_numpy(cases.exclude_items),
        candidates=None if candidates is None else torch.from_numpy(candidates),
        present=None if present is None else torch.from_numpy(present),
    ).numpy()


def seq2item_ndcg(vectors: np.ndarray, cases: Cases, *, k: int = 10, cosine: bool = True) -> float:
    """Mean of 1 / log2(1 + rank) where rank ≤ ``k``, else 0: NDCG with one target a case (NaN without cases)."""
    if not len(cases):
        return math.nan
    ranks = case_ranks(vectors, cases, cosine=cosine)
    return float(np.mean(np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)))


def topk(
    queries: Tensor,
    items: Tensor,
    *,
    k: int,
    own: Tensor | None = None,
    candidates: Tensor | None = None,
    block: int = 1024,
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest items of each query by dot product, best first, equal scores in the items' order.

    Which of several equal items enter at the border of the ``k`` is not defined.

    Memory: 8·block·I bytes.

    Args:
        queries: [C, d] finite.
        items: [I, d] finite.
        k: at most the number of candidates.
        own: [C] item row of the query itself, which is left out.
        candidates: [I] bool: the items searched, None = all.

    Returns:
        [C, k] int64 item rows and [C, k] float64 scores; row -1 and score -inf where too few items are left.
    """
    scored = torch.arange(len(items)) if candidates is None else torch.nonzero(candidates).squeeze(1)
    matrix = items[scored].double().T.contiguous()
    place = torch.full((len(items),), -1, dtype=torch.long)
    place[scored] = torch.arange(len(scored))
    depth = min(k, len(scored))
    found = torch.full((len(queries), k), -1, dtype=torch.long)
    best = torch.full((len(queries), k), -math.inf, dtype=torch.float64)
    for start in range(0, len(queries), block):
        scores = torch.mm(queries[start : start + block].double(), matrix)
        if own is not None:
            self_place = place[own[start : start + block]]
            inside = torch.nonzero(self_place >= 0).squeeze(1)
            scores[inside, self_place[inside]] = -math.inf
        values, columns = scores.topk(depth, dim=1)
        columns, by_column = columns.sort(dim=1)
        values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
        columns = columns.gather(1, by_value)
        best[start : start + block, :depth] = values
        found[start : start + block, :depth] = torch.where(values > -math.inf, scored[columns], -1)
    return found, best
