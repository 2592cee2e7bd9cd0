"""What is taken away in training, so that its lack does not hurt later: modalities, and fields within one.

Shapes: B items, M modalities, T tokens, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def hide_modalities(present: Tensor, *, chance: float) -> Tensor:
    """Hide each present modality with that chance, but one at random of an item's that would lose all: [B, M] bool."""
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    spared = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0).argmax(1)
    lost = present.any(1) & ~kept.any(1)
    return kept | (lost[:, None] & nn.functional.one_hot(spared, present.shape[1]).bool())


def drop_fields(features: Tensor, *, chance: float) -> Tensor:
    """Zero each token that is there with that chance, but one at random of an item's that would lose all: [B, T, W]."""
    kept = hide_modalities((features != 0).any(-1), chance=chance)
    return torch.where(kept[..., None], features, 0.0)
