"""A learnable temperature for each dataset, within bounds (SAIL-Embedding, 2510.12709, section 3.3.2)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Temperatures(nn.Module):
    """One temperature a dataset, learned as its logarithm.

    At a bound, a gradient that would push further is dropped and one that leads back passes in full: a temperature
    rests there, however far an optimizer's momentum carries the parameter behind it, and comes back once the loss has
    wanted it to for as long. Leave the
    parameter out of weight decay, which would pull temperatures towards 1.

    Args:
        count: datasets.
        initial: temperature of all of them at first.
        low, high: bounds.

    Raises:
        ValueError: not 0 < low ≤ initial ≤ high.
    """

    def __init__(self, count: int, *, initial: float, low: float, high: float) -> None:
        super().__init__()
        if not 0 < low <= initial <= high:
            raise ValueError(f"temperature {initial} outside of bounds {low} to {high}, or bounds not positive")
        self.low, self.high = low, high
        self.log = nn.Parameter(torch.full((count,), math.log(initial)))

    def forward(self, dataset: int) -> Tensor:
        """The dataset's temperature, a scalar in [low, high]."""
        temperature: Tensor = _BoundedExp.apply(self.log[dataset], self.low, self.high)
        return temperature


class _BoundedExp(torch.autograd.Function):
    """exp within bounds, with a gradient that is zero outwards only (outwards of descent)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        result = value.exp().clamp(low, high)
        ctx.save_for_backward(result)
        ctx.bounds = low, high
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        (gradient,) = gradients
        low, high = ctx.bounds
        outwards = ((result <= low) & (gradient > 0)) | ((result >= high) & (gradient < 0))
        return (gradient * result).masked_fill(outwards, 0.0), None, None
