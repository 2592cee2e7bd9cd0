"""One step of content-aware training: draw, encode each distinct row once, weigh the objectives, update.

Of several ranks each encodes its share of the batch; the vectors are gathered with their gradients, and every rank
computes the whole batch's losses. So their number changes a result by rounding, and where anything is dropped in
training, by which rows see which draw of it.

Shapes: B pairs, b of this rank, H hard negatives a query, S subsets of modalities, d student width, n distinct rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from recdistill.errors import Diverged
from recdistill.objectives.gather import gather
from recdistill.pretrain.batches import PairBatch, Sampler
from recdistill.pretrain.config import Phase, PretrainConfig
from recdistill.pretrain.draws import Draw, Draws
from recdistill.pretrain.encoder import RowEncoder
from recdistill.pretrain.losses import BatchVectors
from recdistill.pretrain.mining import refresh
from recdistill.pretrain.trainee import Subset, Trainee
from recdistill.students.source import Features
from recdistill.world import World

VISION = "image"


class PretrainStep:
    """Callable for :func:`recdistill.training.fit`; holds what a step reads and updates."""

    def __init__(
        self,
        *,
        trainee: Trainee,
        model: nn.Module,
        encoder: RowEncoder,
        sampler: Sampler,
        places: Sequence[int],
        phase: Phase,
        config: PretrainConfig,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        accelerator: Accelerator,
        world: World,
        seed: int,
    ) -> None:
        """Keep the parts.

        Args:
            trainee: the modules; ``model`` is the same as the accelerator prepared it.
            places: of each of the sampler's datasets among the temperatures.
        """
        self.trainee, self.model, self.encoder, self.sampler = trainee, model, encoder, sampler
        self.places, self.phase, self.config = torch.tensor(places), phase, config
        self.optimizer, self.schedule, self.accelerator = optimizer, schedule, accelerator
        self.world, self.seed = world, seed
        modalities = trainee.student.modalities
        self._single: list[Subset] = [(modality,) for modality in modalities] if phase.weights.micl else []
        self._vision: list[Subset] = [(VISION,)] if phase.weights.late_fusion else []
        self.draws = Draws(
            sampler, encoder, phase=phase, config=config, modalities=tuple(modalities), world=world, seed=seed
        )

    def __call__(self, step: int) -> dict[str, float]:
        """Take one step; returns ``loss``, each objective's value, and the norm of the gradient.

        Raises:
            Diverged: the loss is not finite; names the datasets and the batch.
        """
        if self.draws.mines(step):
            refresh(
                self.sampler,
                self.trainee,
                self.encoder,
                most_queries=self.config.threshold_queries,
                seed=self.seed,
            )
        self.trainee.train()
        if self.world.rank:
            # Each rank encodes rows of its own: with the leader's random state their dropout would repeat its.
            torch.manual_seed(torch.initial_seed() + self.world.rank)
        norm, losses = math.nan, []
        for draw, features, there in self.draws.of(step):
            with self.accelerator.accumulate(self.model):
                parts = self._objectives(draw, features, there)
                loss = torch.stack([getattr(self.phase.weights, name) * value for name, value in parts.items()]).sum()
                losses.append({"loss": loss.item(), **{name: value.item() for name, value in parts.items()}})
                if not math.isfinite(losses[-1]["loss"]):
                    raise self._diverged(draw.batch, step)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = float(self.accelerator.clip_grad_norm_(self.trainee.parameters(), self.config.clip_norm))
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.schedule.step()
        return {name: sum(part[name] for part in losses) / len(losses) for name in losses[0]} | {"gradient_norm": norm}

    def _objectives(self, draw: Draw, features: Features, there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights, batch, parts = self.phase.weights, draw.batch, dict[str, Tensor]()
        subsets = list(dict.fromkeys([*self._single, *self._vision, *itertools.chain(*draw.patterns)]))
        vectors = self._encode(draw, features, there, subsets)
        at = {subset: place for place, subset in enumerate(subsets, start=1)}
        if weights.nce:
            parts["nce"] = vectors.nce()
        if weights.cosent:
            graded = [places for dataset, places in batch.groups() if self.sampler.datasets[dataset].graded]
            parts["cosent"] = vectors.cosent(batch.score, graded)
        if self._single:
            parts["micl"] = vectors.micl([at[subset] for subset in self._single])
        if self._vision and self.trainee.gate is not None:
            parts["late_fusion"] = vectors.late_fusion(at[self._vision[0]], self.trainee.gate)
        if draw.patterns:
            parts["patterns"] = vectors.patterns([(at[query], at[target]) for query, target in draw.patterns])
        return parts

    def _encode(
        self, draw: Draw, features: Features, present: Mapping[str, Tensor], subsets: Sequence[Subset]
    ) -> BatchVectors:
        batch, place = draw.batch, draw.place
        half = self.config.precision == "bf16"
        with torch.autocast(place.device.type, torch.bfloat16, enabled=half):
            encoded = self.model(features, present, subsets=subsets, chunk=self.config.cached_chunk)  # [n, 1 + S, d]
        whole = tuple(self.trainee.student.modalities)
        has = torch.stack([torch.stack([present[m] for m in of]).any(0) for of in (whole, *subsets)], dim=1)
        # F.embedding's backward is much faster than that of indexing.
        placed = F.embedding(place, encoded.float().flatten(1)).unflatten(-1, encoded.shape[1:])  # [b, 2 + H, 1 + S, d]
        everyone = gather(placed, world=self.world).movedim(2, 0)  # [1 + S, B, 2 + H, d]
        there = gather(has[place], world=self.world).movedim(2, 0)  # [1 + S, B, 2 + H]
        candidates = torch.cat([batch.target, batch.hard.flatten()])
        return BatchVectors(
            query=everyone[:, :, 0],
            target=torch.cat([everyone[:, :, 1], everyone[:, :, 2:].flatten(1, 2)], dim=1),
            query_has=there[:, :, 0],
            target_has=torch.cat([there[:, :, 1], there[:, :, 2:].flatten(1, 2)], dim=1),
            excluded=self.sampler.excluded(batch, candidates) | (candidates < 0),
            temperature=self.trainee.temperatures(self.places[batch.dataset])[:, None],
            positive=batch.score > 0,
            prefixes=self.trainee.student.prefixes,
        )

    def _diverged(self, batch: PairBatch, step: int) -> Diverged:
        names = sorted({self.sampler.datasets[dataset].name for dataset, _ in batch.groups()})
        pairs = zip(batch.query[:3].tolist(), batch.target[:3].tolist(), strict=True)
        shown = ", ".join(f"{self.encoder.name(query)} → {self.encoder.name(target)}" for query, target in pairs)
        return Diverged(
            f"pretrain: the loss is not finite at step {step} of phase '{self.phase.name}', in a batch of "
            f"{', '.join(names)} ({shown} …; drawn from seed {self.seed} and the step)",
            remedy="lower the learning rate, or raise the lower bound of the temperature",
        )
