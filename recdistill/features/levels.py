"""A level as one more coordinate of item vectors, so that a dot product serves it.

An item's level is a number added to its score whatever is asked: its coordinate d + 1, against which every query has 1.
A query made of items is made of their first d coordinates, and then gets its 1; their levels say nothing of the user.

Shapes: n rows, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def with_level(vectors: Tensor, level: Tensor) -> Tensor:
    """[n, d] and [n] → [n, d + 1]: items with their levels, or queries with ones."""
    return torch.cat([vectors, level.to(vectors.dtype).unsqueeze(1)], dim=1)
