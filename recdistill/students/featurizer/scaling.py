"""Bringing blocks of features to one size."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_scale(vectors: Tensor) -> Tensor:
    """The factor that gives [n, w] vectors a mean norm of 1 (1 if they are all zero)."""
    norm = torch.linalg.vector_norm(vectors.double(), dim=-1).mean() if len(vectors) else torch.zeros(())
    return (1 / norm).float() if norm > 1e-9 else torch.ones(())
