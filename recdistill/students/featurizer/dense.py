"""A tower's vectors, centred on the catalogue, perhaps on their principal components, of mean norm 1.

Centring matters more than anything else that is free: raw vectors share one large direction.
Shapes: n tokens, W the tower's width, w the width kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

Blocks = Callable[[], Iterable[np.ndarray]]


class Dense(nn.Module):
    """``(x − mean) · projection · scale``."""

    mean: Tensor
    projection: Tensor | None
    scale: Tensor

    def __init__(self, *, width_in: int, width: int | None) -> None:
        super().__init__()
        self.width_in, self.width = width_in, width or width_in
        self.register_buffer("mean", torch.zeros(width_in))
        self.register_buffer("projection", torch.zeros(width_in, width) if width else None)
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, blocks: Blocks, *, width: int | None) -> Dense:
        """Fit in two passes over [n, W] blocks. Memory: one block and W² doubles.

        With ``width`` below W the leading principal components are kept (fewer, if the catalogue has fewer dimensions),
        each with its largest weight positive, so that the result does not depend on the solver's signs.
        """
        count, total, square = 0, np.zeros(0), np.zeros(0)
        for block in blocks():
            exact = block.astype(np.float64)
            if not count:
                total = np.zeros(block.shape[1])
                square = np.zeros((block.shape[1], block.shape[1]) if width else 0)
            count += len(exact)
            total += exact.sum(axis=0)
            if width:
                square += exact.T @ exact
        mean = total / count
        projection = None
        if width is not None and width < len(mean):
            values, vectors = np.linalg.eigh(square / count - np.outer(mean, mean))
            kept = vectors[:, ::-1][:, : max(1, min(width, int((values > 1e-10 * values[-1]).sum())))]
            projection = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])])
        fitted = cls(width_in=len(mean), width=None if projection is None else projection.shape[1])
        fitted.mean.copy_(torch.from_numpy(mean))
        if projection is not None and fitted.projection is not None:
            fitted.projection.copy_(torch.from_numpy(projection.copy()))
        norms = sum(
            float(torch.linalg.vector_norm(fitted(torch.from_numpy(block)).double(), dim=-1).sum())
            for block in blocks()
        )
        if norms > 1e-9 * count:
            fitted.scale.fill_(count / norms)
        return fitted

    def forward(self, vectors: Tensor) -> Tensor:
        """[…, W] → […, w]."""
        centred = vectors - self.mean
        return (centred if self.projection is None else centred @ self.projection) * self.scale
