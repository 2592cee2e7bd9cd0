"""Dynamic hard negatives: near a query, yet below the threshold that parts positives best (SAIL-Embedding, 3.1.2).

What lies above the threshold is as near as positives are: a false negative, or a near-duplicate, and left out. All
cosines are exact in the sense of :mod:`recdistill.retrieval.exact`: no block's size changes what is found.

Shapes: Q queries, T targets, d width, P pairs. Memory: 8·(Q + T)·d bytes, and at most 28·block·T for a
threshold, 11·block·T for mining.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.retrieval.exact import exact_bits

BINS = 4096
BLOCK = 1024


def f1_threshold(positive: Tensor, negative: Iterable[Tensor], *, bins: int = BINS) -> tuple[float, float]:
    """λ* = argmax F1 of "positive if and only if cos ≥ λ", and that F1.

    Cosines are counted in ``bins`` equal bins over [−1, 1], so λ* is the lower edge of one: right to 2 / bins (0.0005
    by default). Where several thresholds are equally good, the highest, which leaves out least.

    Args:
        positive: [P] cosines of the positive pairs.
        negative: blocks of cosines of all other pairs, of any shape.

    Raises:
        ValueError: no positive pair, or a cosine that is not finite.
    """
    if not positive.numel():
        raise ValueError("a threshold needs a positive pair")
    hits = _histogram(positive, bins)
    alarms = torch.zeros_like(hits)
    for block in negative:
        alarms += _histogram(block, bins)
    return _best_edge(hits, alarms)


def dataset_threshold(
    query_vectors: Tensor,
    target_vectors: Tensor,
    pairs: Tensor,
    *,
    itself: Tensor | None = None,
    apart: Tensor | None = None,
    bins: int = BINS,
    block: int = BLOCK,
) -> tuple[float, float]:
    """:func:`f1_threshold` of a dataset: its pairs against all other combinations of its queries and targets.

    Args:
        query_vectors: [Q, d]; target_vectors: [T, d]; finite, normalised here.
        pairs: [P, 2] int64 (query row, target row) of the positives; repeated ones count once.
        itself: [Q] target row that is the query's own item, −1 = none: neither positive nor negative, if not in a pair.
        apart: [n, 2] likewise further combinations that are neither.
        block: queries at once; it cannot change the result.

    Raises:
        ValueError: no pair, or a value that is not finite.
    """
    if not len(pairs):
        raise ValueError("a threshold needs a positive pair")
    cosines = _Cosines(query_vectors, target_vectors, pairs, itself, apart)
    hits = _histogram(cosines.of_pairs(), bins)
    alarms = torch.zeros_like(hits)
    for _, scores, known in cosines.blocks(block):
        alarms += _histogram(scores, bins) - _histogram(scores[known], bins)
    return _best_edge(hits, alarms)


def mine(
    query_vectors: Tensor,
    target_vectors: Tensor,
    pairs: Tensor,
    *,
    threshold: float,
    count: int,
    itself: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Hard negatives of each query: its nearest targets strictly below the threshold that are no known positive of it.

    Args:
        query_vectors: [Q, d]; target_vectors: [T, d]; finite, normalised here.
        pairs: [P, 2] int64 (query row, target row) of the positives.
        threshold: λ* of :func:`dataset_threshold`.
        count: negatives a query.
        itself: [Q] target row that is the query's own item, −1 = none; it is never mined.
        block: queries at once; it cannot change the result.

    Returns:
        [Q, count] int64 target rows, the nearest first (of equally near ones the lower row), −1 = padding.

    Raises:
        ValueError: a value that is not finite.
    """
    mined = torch.full((len(query_vectors), count), -1, device=query_vectors.device)
    for start, scores, known in _Cosines(query_vectors, target_vectors, pairs, itself).blocks(block):
        scores.masked_fill_(scores >= threshold, -torch.inf)
        scores[known] = -torch.inf
        last = scores.topk(min(count, scores.shape[1])).values[:, -1:]
        # Ties with the last may be many more than fit: topk takes any of them, we take the first rows.
        row, column = torch.nonzero((scores >= last) & (scores > -torch.inf), as_tuple=True)
        order = torch.argsort(scores[row, column], descending=True, stable=True)
        order = order[torch.argsort(row[order], stable=True)]
        row, column = row[order], column[order]
        place = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        kept = place < count
        mined[start + row[kept], place[kept]] = column[kept]
    return mined


class _Cosines:
    """Exact cosines of all queries with all targets, and where known pairs stand."""

    def __init__(
        self,
        query_vectors: Tensor,
        target_vectors: Tensor,
        pairs: Tensor,
        itself: Tensor | None,
        apart: Tensor | None = None,
    ) -> None:
        query_bits, target_bits = exact_bits(query_vectors.shape[1])
        self._queries, self._targets = _on_grid(query_vectors, query_bits), _on_grid(target_vectors, target_bits)
        self._pairs = _distinct(pairs, len(target_vectors))
        known = [self._pairs]
        if itself is not None:
            own = torch.stack([torch.arange(len(itself), device=itself.device), itself], dim=1)
            known.append(own[itself >= 0])
        if apart is not None:
            known.append(apart)
        self._asker, self._known = _distinct(torch.cat(known), len(target_vectors)).T.contiguous()

    def of_pairs(self) -> Tensor:
        """[P] cosines of the distinct pairs."""
        return (self._queries[self._pairs[:, 0]] * self._targets[self._pairs[:, 1]]).sum(1)

    def blocks(self, size: int) -> Iterator[tuple[int, Tensor, tuple[Tensor, Tensor]]]:
        """First query, [b, T] cosines, and where in them known pairs stand, of ``size`` queries after another.

        The cosines' memory is that of the next block as well.
        """
        memory = self._queries.new_empty(min(size, len(self._queries)), len(self._targets))
        for start in range(0, len(self._queries), size):
            queries = self._queries[start : start + size]
            scores = torch.mm(queries, self._targets.T, out=memory[: len(queries)])
            ends = torch.tensor([start, start + size], device=self._asker.device)
            low, high = torch.searchsorted(self._asker, ends).tolist()
            yield start, scores, (self._asker[low:high] - start, self._known[low:high])


def _distinct(pairs: Tensor, targets: int) -> Tensor:
    """[n, 2] distinct pairs in order; as single numbers they sort many times faster than as rows."""
    keys = (pairs[:, 0] * targets + pairs[:, 1]).unique()
    return torch.stack([keys // targets, keys % targets], dim=1)


def _best_edge(hits: Tensor, alarms: Tensor) -> tuple[float, float]:
    """Lower edge of the bin from which on F1 is best, and that F1, given how many of each class each bin holds."""
    # Of each edge, from the highest to the lowest: what lies at or above it.
    true, false = hits.flip(0).cumsum(0).double(), alarms.flip(0).cumsum(0).double()
    f1 = 2 * true / (true + false + true[-1])
    best, bins = int(f1.argmax()), len(hits)
    return 2 * (bins - 1 - best) / bins - 1, float(f1[best])


def _on_grid(vectors: Tensor, bits: int) -> Tensor:
    if not torch.isfinite(vectors).all():
        raise ValueError("vectors must be finite")
    scale = 2.0**bits
    return F.normalize(vectors.double(), dim=1).mul_(scale).round_().div_(scale)


def _histogram(cosines: Tensor, bins: int) -> Tensor:
    """[bins] int64 counts over [−1, 1]."""
    if not torch.isfinite(cosines).all():
        raise ValueError("cosines must be finite")
    place = cosines.flatten().add(1).mul_(bins / 2).clamp_(0, bins - 1)
    return torch.bincount(place.int(), minlength=bins)
