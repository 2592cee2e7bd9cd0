"""Soft targets: a teacher's ranking of the candidates of a query, as a distribution (Hinton et al., 1503.02531).

Shapes: B queries, C candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor


def listwise(
    student: Tensor,
    teacher: Tensor,
    *,
    valid: Tensor,
    weight: Tensor,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Weighted mean of KL(teacher ‖ student) between each query's distributions over its valid candidates.

    Args:
        student: [B, C] scores; teacher: [B, C], through which no gradient flows. What stands where ``valid`` is false
            is not read, and may be anything.
        valid: [B, C] bool.
        weight: [B] ≥ 0; a query of fewer than two valid candidates, of which every distribution is alike, has none.
        temperature: of the student's scores; teacher_temperature: of the teacher's.

    Returns:
        scalar ≥ 0; 0, with a zero gradient, where no query has weight.
    """
    weight = weight * (valid.sum(dim=-1) > 1)

    def log_shares(scores: Tensor, tau: float) -> Tensor:
        logits = scores.masked_fill(~valid, 0.0) / tau
        lowest = torch.finfo(logits.dtype).min  # −inf in both would give NaN in their difference
        return torch.log_softmax(logits.masked_fill(~valid, lowest), dim=-1)

    target, found = log_shares(teacher.detach(), teacher_temperature), log_shares(student, temperature)
    divergence = (target.exp() * (target - found)).masked_fill(~valid, 0.0).sum(dim=-1)
    return (divergence * weight).sum() / weight.sum().clamp_min(torch.finfo(divergence.dtype).tiny)


def standardised(scores: Tensor, valid: Tensor) -> Tensor:
    """[B, C] each query's scores less their mean, in their standard deviations (Sun et al., CVPR 2024, 2403.01993).

    So one temperature serves teachers of every scale. Mean and deviation are over the valid candidates; what is not
    valid is 0, as is everything of a query whose valid scores are all alike.
    """
    count = valid.sum(dim=-1, keepdim=True).clamp_min(1)
    kept = scores.masked_fill(~valid, 0.0)
    centred = (kept - kept.sum(dim=-1, keepdim=True) / count).masked_fill(~valid, 0.0)
    spread = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    flat = spread <= 1e-6 * kept.abs().amax(dim=-1, keepdim=True)  # rounding, where all are alike
    return torch.where(flat, 0.0, centred / spread.clamp_min(torch.finfo(scores.dtype).tiny))
