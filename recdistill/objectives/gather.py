"""Candidates of all ranks, with gradients: each rank's loss sees the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives  # where torch.distributed.nn, deprecated, points to
import torch.nn.functional as F
from torch import Tensor

from recdistill.world import World


def gather(rows: Tensor, *, world: World) -> Tensor:
    """The rows of all ranks, in order of rank; alone, the tensor itself. Collective, and so is its backward.

    A gradient that reaches a row on any rank comes back to the rank the row is from, summed over the ranks. So with
    everything a loss reads gathered, and gradients of parameters averaged over the ranks
    (:meth:`recdistill.world.World.average_`, DistributedDataParallel), value and gradient are those of the whole batch
    in one process, however unevenly it is spread. The same holds for own queries against gathered candidates where
    every rank asks as many: the mean of the ranks' losses is then that of the whole batch.

    Args:
        rows: [b, …]; b may differ between ranks, the rest may not.

    Returns:
        [Σ b, …] of the same type.
    """
    if world.size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world.size)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    held = [int(count) for count in counts]
    most = max(held)
    padded = F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, most - len(rows))).contiguous()
    everyone = dist.group.WORLD
    assert everyone is not None, "a world of several processes has joined them"
    joined = collectives.all_gather_single(padded, 0, everyone)
    return torch.cat([part[:count] for part, count in zip(joined.split(most), held, strict=True)])
