"""Matryoshka: a loss averaged over prefixes of a vector (Kusupati et al., 2205.13147)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def over_prefixes(loss: Callable[[Tensor], Tensor], vectors: Tensor, prefixes: Sequence[int]) -> Tensor:
    """Mean of ``loss(vectors[:, :p])`` over the prefixes; the loss normalises, so each prefix stands alone.

    Args:
        vectors: [B, d]; prefixes: widths in 1..d.
    """
    return torch.stack([loss(vectors[..., :width]) for width in prefixes]).mean()
