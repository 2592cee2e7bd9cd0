"""An objective of distillation as a term of the step's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from recdistill.contracts.log import Log
from recdistill.distill.batch import Encoded
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.pairs import Batch, InterestPairs
from recdistill.distill.teachers import Target


@dataclass(frozen=True)
class Given:
    """What terms are built from.

    Attributes:
        training: the log that this fit may learn from; numbers users and items.
        prefixes: the student's widths that serve, ascending; the last is its own.
        load: reads teachers by name.
    """

    config: DistillConfig
    trial: Trial
    training: Log
    pairs: InterestPairs
    prefixes: tuple[int, ...]
    load: Callable[[Sequence[str]], list[Target]]

    @property
    def width(self) -> int:
        """The student's."""
        return self.prefixes[-1]

    def targets(self) -> list[Target]:
        """The trial's ID teachers."""
        return self.load(self.config.teachers)


class Term(nn.Module):
    """One objective. What it trains beside the student are its parameters; what a step changes, its buffers.

    Attributes:
        on_pairs: reads interest pairs; a step none of whose terms do draws items evenly instead.
    """

    on_pairs: ClassVar[bool] = True

    def more(self, pairs: Batch, generator: torch.Generator) -> Tensor | None:
        """Item rows that the step shall encode beside the pairs' own; the term finds them in ``Draw.more``."""
        return None

    def forward(self, batch: Encoded) -> Tensor:
        """The objective's value, a scalar."""
        raise NotImplementedError
