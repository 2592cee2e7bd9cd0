"""InfoNCE over in-batch candidates (van den Oord et al., 1807.03748), with logQ correction (Yi et al., RecSys 2019).

Shapes: B queries, N candidates, d width; … leading dimensions, each a contrast of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def infonce(
    query: Tensor,
    candidates: Tensor,
    positive: Tensor,
    *,
    temperature: float | Tensor,
    log_q: Tensor | None = None,
    excluded: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each query's positive among the candidates, by cosine similarity.

    Args:
        query: […, B, d]; candidates: […, N, d]; both are normalised here.
        positive: [B] or […, B] int64, the row of each query's positive among its candidates.
        temperature: similarities are divided by it.
        log_q: [N] or […, 1, N] log of the chance with which each candidate came into the batch, times the
            correction's strength; it is subtracted from the logits, so that popular items are not punished for being
            sampled often.
        excluded: [B, N] or […, B, N] bool, candidates that are no negatives of that query (false negatives); the
            positive stays.
        weight: [B] or […, B] weights of the queries; the mean, over everything, is weighted by them.

    Returns:
        scalar ≥ 0 if there are candidates; 0 when all weights are 0.
    """
    logits = F.normalize(query, dim=-1) @ F.normalize(candidates, dim=-1).mT / temperature
    positive = positive.expand(logits.shape[:-1])
    if log_q is not None:
        logits = logits - log_q
    if excluded is not None:
        keep = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, positive[..., None], True)
        logits = logits.masked_fill(excluded & ~keep, -torch.inf)
    loss = F.cross_entropy(logits.flatten(0, -2), positive.flatten(), reduction="none")
    if weight is None:
        return loss.mean()
    weight = weight.expand(positive.shape).flatten()
    return (loss * weight).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)
