"""An objective of distillation as a term of the step's loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.batch import Encoded
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.pairs import Batch, InterestPairs
from recdistill.distill.teachers import Scorer, Target

Geometry = Literal["cosine", "dot"]


@dataclass(frozen=True)
class Given:
    """What terms are built from.

    Attributes:
        training: the log that this fit may learn from; numbers users and items.
        prefixes: the student's widths that serve, ascending; the last is its own.
        target, scorer: read a teacher by name, as something to learn the items' places from, or rankings.
        table: reads a teacher by name, as it is.
    """

    config: DistillConfig
    trial: Trial
    training: Log
    pairs: InterestPairs
    prefixes: tuple[int, ...]
    target: Callable[[str], Target]
    scorer: Callable[[str], Scorer]
    table: Callable[[str], EmbeddingTable]

    @property
    def width(self) -> int:
        """The student's."""
        return self.prefixes[-1]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The trial's ID teachers; an item counts by confidence and popularity to the trial's powers."""
        return tuple(self._weighed(self.target(name)) for name in self.config.teachers_of(self.trial))

    def _weighed(self, target: Target) -> Target:
        trial, weight = self.trial, target.confidence
        if trial.confidence_power != 1:
            weight = torch.where(weight > 0, weight**trial.confidence_power, 0.0)
        if trial.popularity_power:
            weight = weight * self._popularity**trial.popularity_power
        return replace(target, confidence=weight)

    @cached_property
    def _popularity(self) -> Tensor:
        """[I] positives of each item, and one more, in units of their mean."""
        positive = self.training.item[self.training.positive()]
        counts = torch.from_numpy(np.bincount(positive, minlength=len(self.training.item_ids)) + 1).float()
        return counts / counts.mean()


class Term(nn.Module):
    """One objective. What it trains beside the student are its parameters; what a step changes, its buffers.

    Attributes:
        on_pairs: reads interest pairs; a step none of whose terms do draws items evenly instead.
        geometry: how what it serves compares; dot where it serves other vectors than the student's own.
    """

    on_pairs: ClassVar[bool] = True
    geometry: ClassVar[Geometry] = "cosine"

    def more(self, pairs: Batch, generator: torch.Generator) -> Tensor | None:
        """Item rows that the step shall encode beside the pairs' own; the term finds them in ``Draw.more``."""
        return None

    def forward(self, batch: Encoded) -> Tensor:
        """The objective's value, a scalar."""
        raise NotImplementedError

    def served(self, vectors: Tensor) -> Tensor:
        """[I, d] the student's vectors of the catalogue → what is judged and written instead."""
        return vectors
