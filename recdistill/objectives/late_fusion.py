"""Late fusion: the contrast of a gated mix of vision and fused vectors (SAIL-Embedding, 2510.12709, section 3.3.2).

Shapes: B pairs, N ≥ B candidates, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.objectives.micl import pattern_contrast


class LateFusionGate(nn.Module):
    """g·v + (1 − g)·n, with g = σ(W[v, n] + b) for each coordinate.

    W and b begin at zero: the mean of both.

    Args:
        width: d.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, vision: Tensor, fused: Tensor) -> Tensor:
        """[…, d] mix of the vectors of vision alone and of all modalities, both […, d]."""
        share = torch.sigmoid(self.gate(torch.cat([vision, fused], dim=-1)))
        return share * vision + (1 - share) * fused


def late_fusion(
    query: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
    query_valid: Tensor,
    target_valid: Tensor,
    *,
    gate: LateFusionGate,
    temperature: float | Tensor,
    excluded: Tensor | None = None,
) -> Tensor:
    """InfoNCE between gated mixes, over the pairs whose query and target both have vision.

    Args:
        query: vision and fused vectors, [B, d] each; target: likewise [N, d], the pairs' own first, then further (hard)
            negatives.
        query_valid: [B] bool, whether the query has vision; target_valid: [N] bool.
        temperature: similarities are divided by it.
        excluded: [B, N] bool, candidates that are no negatives of that query; its own target stays.

    Returns:
        scalar ≥ 0; 0, with a zero gradient, where no pair or a single candidate has vision.
    """
    return pattern_contrast(
        gate(*query)[None],
        gate(*target)[None],
        query_valid[None],
        target_valid[None],
        patterns=[(0, 0)],
        temperature=temperature,
        excluded=excluded,
    )
