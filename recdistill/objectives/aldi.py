"""ALDI (Huang et al., SIGIR 2023): new items behave as known ones do: rating, ranking and identification aligned.

Known items have the teacher's vectors, new ones are generated from content; the differences between the two kinds are
what the losses make small. Shapes: B pairs of a positive and a negative item, t width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def aldi(
    generated: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    student_user: Tensor,
    teacher_user: Tensor,
    *,
    weight: Tensor,
    rating: float,
    ranking: float,
    identification: float,
) -> Tensor:
    """Supervised ranking loss + γ · rating + α · ranking + β · identification.

    Args:
        generated, teacher: [B, t] each, of the positive and of the negative items; no gradient reaches the teacher.
        student_user, teacher_user: [B, t] users as generated and as teacher's vectors meet them.
        weight: [B] ≥ 0 of the positive items (:func:`teacher_weight`): ranking and identification trust the teacher
            so far.
        rating: γ, of |teacher's score − student's| of both items.
        ranking: α, of the cross-entropy between σ(positive − negative) of teacher and student.
        identification: β, of the cross-entropy between σ(how far an item's likeness to itself exceeds its mean
            likeness to the negatives) of both.

    Returns:
        scalar ≥ 0.
    """
    positive, negative = generated
    known, unknown = (part.detach() for part in teacher)
    teacher_user = teacher_user.detach()
    student_scores = [(student_user * item).sum(dim=-1) for item in (positive, negative)]
    teacher_scores = [(teacher_user * item).sum(dim=-1) for item in (known, unknown)]
    margin, teacher_margin = student_scores[0] - student_scores[1], teacher_scores[0] - teacher_scores[1]
    supervised = F.softplus(-margin).mean()
    rated = (torch.stack(student_scores) - torch.stack(teacher_scores)).abs().sum(dim=0).mean()
    ranked = F.binary_cross_entropy_with_logits(margin, teacher_margin.sigmoid(), weight=weight)
    identified = F.binary_cross_entropy_with_logits(
        _itself(positive, negative), _itself(known, unknown).sigmoid(), weight=weight
    )
    return supervised + rating * rated + ranking * ranked + identification * identified


def teacher_weight(frequency: Tensor, *, expected: float, cap: float) -> Tensor:
    """[n] tanh(M · frequency / expected), at most tanh M: how far each item's teacher vector is trusted.

    Args:
        frequency: [n] ≥ 0, of each item the sum over its users of 1 / the user's number of items.
        expected: what an item has on average.
        cap: M.
    """
    return torch.tanh((cap * frequency / expected).clamp(max=cap))


def _itself(items: Tensor, others: Tensor) -> Tensor:
    return (items * items).sum(dim=-1) - (items @ others.T).mean(dim=1)
