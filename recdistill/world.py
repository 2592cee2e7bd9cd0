"""The processes that train together: one, or as many as torchrun started.

Every method but ``share`` and ``leads`` is collective: each rank must call it, in the same order. Alone, none of them
communicates, and no process group is needed.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recdistill.errors import UserError

T = TypeVar("T")

# Followers wait in a collective for as long as the leader works alone; torchrun ends them should it die.
_PATIENCE = timedelta(days=365)


@dataclass(frozen=True)
class World:
    """This process among its equals.

    Attributes:
        rank: of this process, 0 … size - 1.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    @contextmanager
    def joined() -> Iterator[World]:
        """Join the processes that torchrun started, over gloo; without torchrun, or with one process, be alone.

        Who leaves must know that the others are about to as well (a :meth:`barrier`): gloo's threads end a process
        whose peer is gone while it still speaks.
        """
        # A cluster may set the size for its own ends; torchrun sets the rank as well.
        size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
        if size == 1:
            yield World()
            return
        dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield World(dist.get_rank(), size)
        finally:
            gc.collect()  # what still refers to the group goes first
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes, logs and decides."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's contiguous part of ``range(count)``; parts differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def agree(self, value: Any) -> Any:
        """Rank 0's ``value`` on every rank; it must be what JSON can hold (NaN included)."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        length = torch.tensor(len(text))
        dist.broadcast(length, src=0)
        sent = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.leads else torch.empty(int(length)).byte()
        dist.broadcast(sent, src=0)
        return json.loads(sent.numpy().tobytes())

    def first(self, work: Callable[[], T]) -> T | None:
        """Do something on the leader alone, while the others wait; its result there, None elsewhere.

        Raises:
            UserError: on every rank, if the leader's work raises it.
        """
        value, error = None, None
        if self.leads:
            try:
                value = work()
            except UserError as raised:
                error = raised
        told = self.agree(None if error is None else [error.message, error.remedy])
        if error is not None:
            raise error
        if told is not None:
            raise UserError(told[0], remedy=told[1])
        return value

    def most(self, value: int) -> int:
        """The largest over the ranks."""
        return int(self._reduced(torch.tensor(value), dist.ReduceOp.MAX))

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Mean over the ranks, in place, by one all-reduce: of gradients, whose shapes agree between ranks."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        parts = self.sum_(flat).div_(self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def _reduced(self, tensor: Tensor, how: Any) -> Tensor:
        if self.size > 1:
            dist.all_reduce(tensor, op=how)
        return tensor
