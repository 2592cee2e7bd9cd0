"""Feature distillation: align projected student vectors with a teacher's (FitNets, Romero et al., 1412.6550).

Shapes: B items, d teacher width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment(projected: Tensor, teacher: Tensor, *, weight: Tensor) -> Tensor:
    """Weighted mean of 1 − cosine between a student's projection and the teacher's vector.

    Args:
        projected: [B, d] student vectors in the teacher's space.
        teacher: [B, d] centred teacher vectors; no gradient reaches them.
        weight: [B] ≥ 0, the teacher's confidence; 0 where the teacher does not know the item.

    Returns:
        scalar in [0, 2]; 0 when all weights are 0.
    """
    distance = 1 - F.cosine_similarity(projected, teacher.detach(), dim=-1)
    return (distance * weight).sum() / weight.sum().clamp_min(torch.finfo(distance.dtype).tiny)


def regression(projected: Tensor, teacher: Tensor, *, weight: Tensor) -> Tensor:
    """Weighted mean of the squared distance between a student's projection and the teacher's vector.

    Unlike :func:`alignment` it asks for the vector's length as well.

    Arguments as of :func:`alignment`.

    Returns:
        scalar ≥ 0; 0 when all weights are 0.
    """
    distance = (projected - teacher.detach()).square().sum(dim=-1)
    return (distance * weight).sum() / weight.sum().clamp_min(torch.finfo(distance.dtype).tiny)
