"""Large batches in the memory of a small one: gradient caching (GradCache, Gao et al., 2101.06983).

A contrastive loss needs the vectors of the whole batch, but not all their activations at once. GradCache encodes the
batch in chunks without activations, and encodes each chunk once more when its gradient is due. That is activation
checkpointing at the borders of the chunks, so torch's own does it: one ordinary graph, which DistributedDataParallel,
gathers over ranks and mixed precision see as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

C = TypeVar("C")


def encode_cached(encode: Callable[[C], Sequence[Tensor]], chunks: Iterable[C]) -> tuple[Tensor, ...]:
    """What ``encode`` gives for all chunks, joined; a backward through it encodes one chunk at a time again.

    Value and gradient are those of plain encoding of the same chunks. Memory: the joined tensors and one chunk's
    activations. Time: one more forward.

    Args:
        encode: a chunk to tensors [b, …], rows first. It is called twice on each chunk, the second time under the
            random state of torch that the first call began with; it may draw from no generator of its own.
        chunks: at least one, of any sizes; their tensors lie where ``encode`` computes, so that the random state of
            that device is kept as well.

    Returns:
        As many tensors as ``encode`` gives, [Σ b, …] each.
    """
    parts = [checkpoint(encode, chunk, use_reentrant=False) for chunk in chunks]
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))
