"""Relaxed ranking distillation: a teacher's list in its order, above all that is not on it (RRD of DE-RRD: Kang et al.,
CIKM 2020, 2012.04357, section 3.2).

Shapes: B queries, K interesting items each, U uninteresting ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Instead of −inf, whose gradient in a cumulative logsumexp is NaN; no logit that matters comes near.
_NOTHING = -1e4


def relaxed_ranking(
    interesting: Tensor,
    uninteresting: Tensor,
    *,
    valid: Tensor,
    valid_uninteresting: Tensor,
    weight: Tensor,
    temperature: float,
) -> Tensor:
    """Mean negative log-likelihood, an item, of the list's order under Plackett and Luce.

    Item k is to be chosen from the list's rest and all uninteresting items, whose own order does not matter.

    Args:
        interesting: [B, K] the student's scores of a list's items, the teacher's first before its last.
        uninteresting: [B, U] of items that are not on the list.
        valid: [B, K] bool; valid_uninteresting: [B, U] bool. What stands elsewhere is not read.
        weight: [B] ≥ 0 of the queries; one without a valid item on its list has none.
        temperature: scores are divided by it.

    Returns:
        scalar ≥ 0; 0, with a zero gradient, where no query has weight.
    """
    own = (interesting / temperature).masked_fill(~valid, _NOTHING)
    others = (uninteresting / temperature).masked_fill(~valid_uninteresting, _NOTHING)
    below = torch.cat([others.logsumexp(dim=-1, keepdim=True), own.flip(-1)], dim=-1)
    chosen_from = below.logcumsumexp(dim=-1)[:, 1:].flip(-1)  # [B, K] log Σ over item k, the rest and the others
    surprise = (chosen_from - own).masked_fill(~valid, 0.0).sum(dim=-1) / valid.sum(dim=-1).clamp_min(1)
    weight = weight * valid.any(dim=-1)
    return (surprise * weight).sum() / weight.sum().clamp_min(torch.finfo(surprise.dtype).tiny)
