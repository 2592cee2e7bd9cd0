"""What a step draws, and the features of it; those of the next are prepared meanwhile.

Shapes: B pairs, b of this rank, H hard negatives a query, n distinct rows under their instructions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.pretrain.batches import PairBatch, Sampler
from recdistill.pretrain.config import Phase, PretrainConfig
from recdistill.pretrain.encoder import RowEncoder
from recdistill.pretrain.trainee import Subset
from recdistill.students.source import Features
from recdistill.training import step_generator
from recdistill.world import World


@dataclass(frozen=True)
class Draw:
    """One batch of a step.

    Attributes:
        batch: of all ranks together.
        patterns: subsets of the modalities that a query and a target show of themselves.
        keys: [n] what this rank encodes.
        place: [b, 2 + H] where among them its queries, targets and hard negatives are.
    """

    batch: PairBatch
    patterns: list[tuple[Subset, Subset]]
    keys: Tensor
    place: Tensor


class Draws:
    """Draws that are a function of the seed, the step and what the sampler has mined."""

    def __init__(
        self,
        sampler: Sampler,
        encoder: RowEncoder,
        *,
        phase: Phase,
        config: PretrainConfig,
        modalities: tuple[str, ...],
        world: World,
        seed: int,
    ) -> None:
        self._sampler, self._encoder, self._phase, self._config = sampler, encoder, phase, config
        self._world, self._seed = world, seed
        self._subsets: list[Subset] = [
            subset for size in range(1, len(modalities) + 1) for subset in itertools.combinations(modalities, size)
        ]
        self._ahead: tuple[int, list[Draw]] | None = None

    def mines(self, step: int) -> bool:
        """Are hard negatives mined anew before this step? It cannot be drawn ahead then."""
        return bool(self._phase.hard_negatives) and step % self._phase.refresh_every == 0

    def of(self, step: int) -> Iterator[tuple[Draw, Features, Mapping[str, Tensor]]]:
        """Each batch of a step, with what the student reads of its keys."""
        ahead, self._ahead = self._ahead, None
        draws = ahead[1] if ahead is not None and ahead[0] == step else self._draw(step)
        for at, draw in enumerate(draws, start=1):
            features, there = self._encoder.features(draw.keys)
            if at < len(draws):
                self._encoder.prefetch(draws[at].keys)
            elif not self.mines(step + 1):
                self._ahead = (step + 1, self._draw(step + 1))
                self._encoder.prefetch(self._ahead[1][0].keys)
            yield draw, features, there

    def _draw(self, step: int) -> list[Draw]:
        generator = step_generator(self._seed, step)
        return [self._batch(generator) for _ in range(self._config.accumulation)]

    def _batch(self, generator: torch.Generator) -> Draw:
        batch = self._sampler.draw(self._config.batch_size, generator)
        patterns = self._patterns(generator) if self._phase.weights.patterns else []
        told = (
            not self._encoder.instructions.of or float(torch.rand((), generator=generator)) >= self._config.uninstructed
        )
        mine = batch.part(self._world.share(len(batch.query)))
        hard = torch.where(mine.hard < 0, mine.target[:, None], mine.hard)  # a place that the losses leave out
        rows = torch.cat([mine.query[:, None], mine.target[:, None], hard], dim=1)
        keys = rows.clone()
        for dataset, places in mine.groups() if told else ():
            name = self._sampler.datasets[dataset].name
            keys[places, :1] = self._encoder.keys(name, 0, rows[places, :1])
            keys[places, 1:] = self._encoder.keys(name, 1, rows[places, 1:])
        return Draw(batch, patterns, *keys.unique(return_inverse=True))

    def _patterns(self, generator: torch.Generator) -> list[tuple[Subset, Subset]]:
        """Pairs of subsets of the modalities: what a query shows of itself, and what a target does (3.3.4)."""
        drawn = torch.randint(len(self._subsets), (self._phase.patterns, 2), generator=generator)
        return [(self._subsets[query], self._subsets[target]) for query, target in drawn.tolist()]
