"""DropoutNet (Volkovs, Yu and Poutanen, NeurIPS 2017): a network gives the teacher's scores again, preferences or none.

Shapes: B pairs, t width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dropoutnet(scores: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between the network's and the teacher's score of each pair (the paper's equation 2).

    Args:
        scores: [B] of the network, whose inputs' preferences were dropped for some items (:func:`drop_preferences`).
        teacher: [B] of the teacher, from all preferences; no gradient reaches it.

    Returns:
        scalar ≥ 0; 0 without pairs.
    """
    return ((scores - teacher.detach()) ** 2).sum() / max(len(scores), 1)


def drop_preferences(preferences: Tensor, *, share: float, generator: torch.Generator | None = None) -> Tensor:
    """[…, t] preference vectors, each set to zero with chance ``share``: an item as it was before anyone met it."""
    kept = torch.rand(preferences.shape[:-1], generator=generator) >= share
    return preferences * kept.unsqueeze(-1)
