"""Relational distillation: a batch's similarity structure, as distributions (in the manner of SEED, 2101.04731).

Shapes: B items, d student width, t teacher width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relational(
    student: Tensor, teacher: Tensor, *, weight: Tensor, temperature: float, teacher_temperature: float
) -> Tensor:
    """Weighted mean of KL(teacher ‖ student) between each item's distributions over the other items of the batch.

    Args:
        student: [B, d]; teacher: [B, t], centred; similarities are cosine, and no gradient reaches the teacher.
        weight: [B] ≥ 0, the teacher's confidence. It weighs an item's own distribution and, as a prior, its share of
            the others'; an item of weight 0 is neither asked nor a neighbour.
        temperature: of the student's similarities; teacher_temperature: of the teacher's.

    Returns:
        scalar ≥ 0; 0 with fewer than three items of positive weight (one neighbour is no structure).
    """
    known = weight > 0
    if int(known.sum()) < 3:
        return student.sum() * 0.0
    student, teacher, weight = student[known], teacher[known].detach(), weight[known]
    itself = torch.eye(len(weight), dtype=torch.bool, device=student.device)

    def log_shares(vectors: Tensor, tau: float) -> Tensor:
        unit = F.normalize(vectors, dim=-1)
        logits = unit @ unit.T / tau + weight.log()
        return F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=-1)

    target = log_shares(teacher, teacher_temperature)
    found = log_shares(student, temperature)
    # −inf on the diagonal of both would give NaN in their difference.
    difference = (target - found).masked_fill(itself, 0.0)
    divergence = (target.exp() * difference).sum(dim=-1)
    return (divergence * weight).sum() / weight.sum()
