"""What one rank does of a step that several ranks take together.

Every rank draws the whole batch and works on its part of the users; what is random or a mean goes by the whole batch,
so that the result does not depend on how many ranks there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.world import World


def shared_dropout(x: Tensor, p: float, *, part: slice, total: int) -> Tensor:
    """Dropout of ``part`` of ``total`` rows, as if all rows had been given.

    Draws from the global generator, which therefore must stand alike on all ranks.

    Args:
        x: [n, ...] the rows of the part.
        p: share of values set to zero.
        part: which rows of all they are.
        total: rows of all ranks together.
    """
    if p == 0:
        return x
    kept = torch.empty(total, *x.shape[1:], dtype=x.dtype).bernoulli_(1 - p)[part]
    return x * kept.div_(1 - p)


def shared_loss(loss: Tensor, *, weight: float, total: float, world: World) -> Tensor:
    """Scale the mean over a rank's rows such that the mean over ranks is the mean over all rows.

    Args:
        loss: mean over this rank's rows, weighted.
        weight, total: sum of weights of this rank's rows, and of all ranks'.
    """
    return loss if world.size == 1 else loss * (world.size * weight / total)
