"""Columns of numbers, such as match features and reactions, as dense input of a ranker.

Shapes: n rows, c columns, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from recdistill.errors import UserError

_LARGEST = 5.0


class DenseColumns(nn.Module):
    """Standardises columns; what is unknown becomes 0, and a flag beside each column says which it was.

    Zero mean and unit variance on the rows it was fitted on, clipped at five standard deviations: a ranker's dense
    branch is thrown off by a count of thousands beside cosines. Mean and scale travel in ``state_dict``, so that
    serving standardises as training did.

    Args:
        names: c columns of a frame, in the order that the ranker gets them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    @property
    def width(self) -> int:
        """2c: what the columns become."""
        return 2 * len(self.names)

    def read(self, frame: pd.DataFrame) -> Tensor:
        """[n, c] float32 of a frame, NaN where unknown.

        Raises:
            UserError: the frame lacks a column, or one is not of numbers.
        """
        absent = [name for name in self.names if name not in frame.columns]
        other = [name for name in self.names if name not in absent and not pd.api.types.is_numeric_dtype(frame[name])]
        if absent or other:
            raise UserError(
                f"dense columns that are missing: {absent}; that are not numbers: {other}",
                remedy="join them first, with recdistill.plugins.feature_frame",
            )
        return torch.tensor(frame[list(self.names)].to_numpy(dtype=np.float32, na_value=np.nan))

    @torch.no_grad()
    def fit(self, values: Tensor) -> Self:
        """Learn mean and scale from [n, c] training rows; a column that is constant or unknown there gets scale 1."""
        known = torch.isfinite(values)
        count = known.sum(dim=0).clamp(min=1)
        filled = torch.where(known, values, 0).double()
        mean = filled.sum(dim=0) / count
        variance = (torch.where(known, filled - mean, 0) ** 2).sum(dim=0) / count
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(variance > 1e-12, variance.sqrt(), 1.0))
        return self

    def forward(self, values: Tensor) -> Tensor:
        """[B, c] → [B, 2c]: the standardised columns, then the flags, 1 where a column was known."""
        known = torch.isfinite(values)
        scaled = ((torch.where(known, values, self.mean) - self.mean) / self.scale).clamp(-_LARGEST, _LARGEST)
        return torch.cat([scaled, known.to(scaled.dtype)], dim=1)
