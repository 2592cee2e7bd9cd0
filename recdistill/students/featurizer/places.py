"""Vectors of fields, centred field by field: where an item's fields are tokens, a field that lacks must leave no trace.

Titles lie elsewhere than plots. Centred together, the mean of an item's tokens would say above all which fields it has.
Shapes: n vectors, P places (fields), w width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

PlacedBlocks = Callable[[], Iterable[tuple[Tensor, np.ndarray]]]
_NOTHING = 1e-4  # of vectors of norm 1 about: what is nearer to its place's centre is rounding, not content


class PlaceCentre(nn.Module):
    """``(x − mean of its place) · scale of its place``, of mean norm 1 in every place; the zero vector stays zero."""

    mean: Tensor
    scale: Tensor

    def __init__(self, *, places: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("scale", torch.ones(places))

    @classmethod
    def fit(cls, blocks: PlacedBlocks, *, places: int, width: int) -> PlaceCentre:
        """Fit in two passes over ([n, w] vectors, [n] places); zero vectors do not count. Memory: one block."""
        fitted = cls(places=places, width=width)
        count, total = torch.zeros(places, dtype=torch.float64), torch.zeros(places, width, dtype=torch.float64)
        for vectors, place in blocks():
            there = (vectors != 0).any(-1)
            at = torch.from_numpy(place)[there]
            count.index_add_(0, at, torch.ones(len(at), dtype=torch.float64))
            total.index_add_(0, at, vectors[there].double())
        fitted.mean.copy_(total / count.clamp(min=1)[:, None])
        norms = torch.zeros(places, dtype=torch.float64)
        for vectors, place in blocks():
            at = torch.from_numpy(place)
            norms.index_add_(0, at, torch.linalg.vector_norm(fitted(vectors, at).double(), dim=-1))
        fitted.scale.copy_(torch.where(norms > _NOTHING * count, count / norms, 1.0))
        return fitted

    def forward(self, vectors: Tensor, place: Tensor) -> Tensor:
        """[n, …, w] and [n] → [n, …, w]."""
        shape = (len(place), *[1] * (vectors.dim() - 2), -1)
        centred = (vectors - self.mean[place].view(shape)) * self.scale[place].view(shape)
        return torch.where((vectors != 0).any(-1, keepdim=True), centred, 0.0)
