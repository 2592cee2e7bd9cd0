"""Drawing a step's pairs: from one dataset (stochastic specialisation, SAIL-Embedding 3.3.3), or from all.

Shapes: D datasets, B pairs, H hard negatives a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recdistill.pretrain.datasets import PairDataset


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one step.

    Attributes:
        dataset: [B] int64, each pair's place among the phase's datasets.
        query, target: [B] int64 rows.
        score: [B] float32.
        hard: [B, H] int64 rows of each query's hard negatives, -1 where it has fewer.
    """

    dataset: Tensor
    query: Tensor
    target: Tensor
    score: Tensor
    hard: Tensor

    def part(self, which: slice) -> PairBatch:
        """Some consecutive pairs."""
        return PairBatch(
            self.dataset[which], self.query[which], self.target[which], self.score[which], self.hard[which]
        )

    def groups(self) -> Iterator[tuple[int, Tensor]]:
        """Each dataset that occurs, with the places of its pairs."""
        for dataset in self.dataset.unique().tolist():
            yield dataset, (self.dataset == dataset).nonzero().flatten()


class Sampler:
    """Draws batches that are a function of the generator alone: equal on all ranks, whatever their number.

    Args:
        datasets: those of a phase, none empty.
        weights: [D] chances of the datasets.
        specialised: a batch is one dataset's; else each pair comes from a dataset of its own draw.
        hard_negatives: H; until :meth:`mined` is called there are none.
    """

    def __init__(
        self, datasets: Sequence[PairDataset], weights: Sequence[float], *, specialised: bool, hard_negatives: int = 0
    ) -> None:
        self.datasets, self.specialised, self.hard_negatives = tuple(datasets), specialised, hard_negatives
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self._hard = [torch.full((len(dataset), hard_negatives), -1) for dataset in self.datasets]
        self.thresholds = torch.full((len(self.datasets),), torch.nan)

    def mined(self, dataset: int, hard: Tensor, threshold: float) -> None:
        """Take the hard negatives [P, H] of a dataset's pairs, -1 where there are fewer, and their λ*."""
        self._hard[dataset].copy_(hard)
        self.thresholds[dataset] = threshold

    def state_dict(self) -> dict[str, Any]:
        """What was mined by an earlier state of the student, which a resumed training must see again."""
        return {"hard": dict(enumerate(self._hard)), "thresholds": self.thresholds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        for index, hard in enumerate(self._hard):
            hard.copy_(state["hard"][index])
        self.thresholds.copy_(state["thresholds"])

    def draw(self, size: int, generator: torch.Generator) -> PairBatch:
        """Draw ``size`` pairs with replacement."""
        drawn = torch.multinomial(self.weights, 1 if self.specialised else size, replacement=True, generator=generator)
        dataset = drawn.expand(size)
        at = torch.rand(size, generator=generator, dtype=torch.float64)
        parts = []
        for index in dataset.unique().tolist():
            places = (dataset == index).nonzero().flatten()
            source = self.datasets[index]
            rows = (at[places] * len(source)).long()
            parts.append((places, source.query[rows], source.target[rows], source.score[rows], self._hard[index][rows]))
        order = torch.cat([part[0] for part in parts]).argsort()
        query, target, score, hard = (torch.cat([part[field] for part in parts])[order] for field in (1, 2, 3, 4))
        return PairBatch(dataset, query, target, score, hard)

    def excluded(self, batch: PairBatch, candidates: Tensor) -> Tensor:
        """[B, C] bool: candidate rows [C] that are no negatives of the batch's queries."""
        found = torch.zeros(len(batch.query), len(candidates), dtype=torch.bool)
        for dataset, places in batch.groups():
            found[places] = self.datasets[dataset].related(batch.query[places], candidates)
        return found
