"""Bags of rows, some of which may be unknown.

Shapes: N rows in B bags.
"""

from __future__ import annotations

import torch
from torch import Tensor


def known_bags(rows: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Leave unknown rows out of their bags.

    Args:
        rows: [N] int64, -1 where unknown.
        lengths: [B] how many rows each bag has; None: one each.

    Returns:
        The known rows, and [B] int64 how many each bag keeps; a bag may be empty.
    """
    known = rows >= 0
    if lengths is None:
        return rows[known], known.to(torch.int64)
    return rows[known], torch.zeros_like(lengths, dtype=torch.int64).index_add_(
        0, bag_of(lengths), known.to(torch.int64)
    )


def bag_of(lengths: Tensor) -> Tensor:
    """[N] int64: which bag each row is in."""
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
