"""Full topology distillation: the batch's similarities themselves (FTD: Kang et al., KDD 2021,
2106.08700, section 4.2).

Shapes: B items, d student width, t teacher width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def topology(student: Tensor, teacher: Tensor, *, weight: Tensor) -> Tensor:
    """Weighted mean squared difference between the teacher's and the student's cosines of all pairs of items.

    Where :func:`recdistill.objectives.relational.relational` asks who is nearer than whom, this asks how near.

    Args:
        student: [B, d]; teacher: [B, t], centred; no gradient reaches it.
        weight: [B] ≥ 0; a pair weighs the product of its items'.

    Returns:
        scalar in [0, 4]; 0 with fewer than two items of positive weight.
    """
    found, target = (unit @ unit.T for unit in (F.normalize(student, dim=-1), F.normalize(teacher.detach(), dim=-1)))
    pair = (weight[:, None] * weight[None, :]).fill_diagonal_(0.0)
    return ((found - target).square() * pair).sum() / pair.sum().clamp_min(torch.finfo(found.dtype).tiny)
