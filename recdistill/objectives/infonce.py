"""InfoNCE over in-batch candidates (van den Oord et al., 1807.03748), with logQ correction (Yi et al., RecSys 2019).

Shapes: B queries, N candidates, d width.
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
        query: [B, d]; candidates: [N, d]; both are normalised here.
        positive: [B] int64, the row of each query's positive among the candidates.
        temperature: similarities are divided by it.
        log_q: [N] log of the chance with which each candidate came into the batch, times the correction's strength;
            it is subtracted from the logits, so that popular items are not punished for being sampled often.
        excluded: [B, N] bool, candidates that are no negatives of that query (false negatives); the positive stays.
        weight: [B] weights of the queries; the mean is weighted by them.

    Returns:
        scalar ≥ 0 if there are candidates; 0 when all weights are 0.
    """
    logits = F.normalize(query, dim=-1) @ F.normalize(candidates, dim=-1).T / temperature
    if log_q is not None:
        logits = logits - log_q
    if excluded is not None:
        keep = torch.zeros_like(excluded).scatter_(1, positive[:, None], True)
        logits = logits.masked_fill(excluded & ~keep, -torch.inf)
    loss = F.cross_entropy(logits, positive, reduction="none")
    if weight is None:
        return loss.mean()
    return (loss * weight).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)
