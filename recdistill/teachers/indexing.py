"""Index arithmetic on ragged batches.

Shapes: R rows, d width, B groups, N members, M asked.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gather(vectors: Tensor, ids: Tensor) -> Tensor:
    """[R, d] and [...] row numbers → [..., d], like indexing.

    Indexing's backward pass adds up repeated rows in whatever order threads come; this one's order is fixed.
    """
    return torch.nn.functional.embedding(ids, vectors)


def expand(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """For each b and each row of ``starts[b] : starts[b] + counts[b]``: b, and the row. Both [Σ counts]."""
    group = torch.repeat_interleave(torch.arange(len(counts)), counts)
    first = counts.cumsum(0) - counts
    return group, torch.arange(len(group)) - first[group] + starts[group]


def is_member(groups: Tensor, items: Tensor, asked: Tensor, *, size: int, vocabulary: int) -> Tensor:
    """Which of the asked items belong to which group.

    Args:
        groups, items: [N] members as (group, item) pairs.
        asked: [M] items.
        size: number of groups, B.
        vocabulary: number of items.

    Returns:
        [B, M] bool.
    """
    keys = torch.unique(groups * vocabulary + items)
    wanted = torch.arange(size).unsqueeze(1) * vocabulary + asked.unsqueeze(0)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return keys[place] == wanted
