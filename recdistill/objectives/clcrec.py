"""CLCRec (Wei et al., MM 2021, 2107.05315): content and collaborative vectors of an item have much in common.

Shapes: B pairs, N common negatives, t width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clcrec(
    user: Tensor,
    collaborative: Tensor,
    content: Tensor,
    negative_content: Tensor,
    hybrid: Tensor,
    negative_hybrid: Tensor,
    *,
    temperature: float,
    balance: float,
    excluded: Tensor | None = None,
) -> Tensor:
    """λ · contrast(collaborative → content) + (1 − λ) · contrast(user → item).

    Args:
        user: [B, t] who took the positive item.
        collaborative, content: [B, t] of the positive items, compared by cosine (the paper's R-E network).
        negative_content: [N, t] of the negatives.
        hybrid, negative_hybrid: [B, t], [N, t] items as the user is shown them: collaborative vectors, of which some
            are replaced by content (:func:`mix`); compared by dot product (its U-I network).
        temperature: divides both similarities.
        balance: λ in [0, 1].
        excluded: [B, N] bool: negatives that the user took.

    Returns:
        scalar ≥ 0.
    """
    unit = F.normalize(collaborative, dim=-1)
    to_content = _contrast(
        unit, F.normalize(content, dim=-1), F.normalize(negative_content, dim=-1), temperature, excluded
    )
    to_user = _contrast(user, hybrid, negative_hybrid, temperature, excluded)
    return balance * to_content + (1 - balance) * to_user


def mix(collaborative: Tensor, content: Tensor, *, share: float, generator: torch.Generator | None = None) -> Tensor:
    """[…, t] collaborative vectors, each replaced by the item's content with chance ``share`` (the paper's ρ)."""
    replaced = torch.rand(collaborative.shape[:-1], generator=generator) < share
    return torch.where(replaced.unsqueeze(-1), content, collaborative)


def _contrast(
    anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float, excluded: Tensor | None
) -> Tensor:
    own, others = (anchor * positive).sum(dim=-1, keepdim=True), anchor @ negative.T
    if excluded is not None:
        others = others.masked_fill(excluded, -torch.inf)
    logits = torch.cat([own, others], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(anchor), dtype=torch.long, device=anchor.device))
