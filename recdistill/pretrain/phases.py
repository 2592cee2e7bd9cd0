"""A student on its way through the phases of content-aware training.

Shapes: N items and texts, D datasets of a phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import clear_environment
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.objectives.late_fusion import LateFusionGate
from recdistill.pretrain.batches import Sampler
from recdistill.pretrain.config import Phase, PretrainConfig
from recdistill.pretrain.datasets import PairDataset, PairDatasets
from recdistill.pretrain.encoder import Instructions, RowEncoder
from recdistill.pretrain.sampling import dataset_weights
from recdistill.pretrain.step import VISION, PretrainStep
from recdistill.pretrain.temperatures import Temperatures
from recdistill.pretrain.texts import with_texts
from recdistill.pretrain.trainee import Trainee
from recdistill.pretrain.validation import held_out_ndcg
from recdistill.students import StudentConfig, build_student, feature_source
from recdistill.students.tuning import TrainedState, parameter_groups
from recdistill.training import Fitted, LogFn, fit
from recdistill.world import World

SUBJECT = "pretrained_student"


class Pretraining:
    """The student of one fit, on its way through the phases."""

    def __init__(
        self,
        config: PretrainConfig,
        student: StudentConfig,
        *,
        fold: Fold,
        data: Path,
        content: Path,
        pairs: Path,
        cache: Path | None,
        of: Fit,
        seed: int,
        world: World,
    ) -> None:
        self.config, self.of, self.seed, self.world = config, of, seed, world
        self.item_ids = fold.item_ids()
        named = [phase.datasets for phase in config.phases]
        adaptive = any(phase.sampling == "adaptive" for phase in config.phases)
        named += [config.balancing.benchmarks] if adaptive else []
        self.data = PairDatasets.read(
            pairs,
            self.item_ids,
            # The final fit validates nothing, so it learns from all pairs, unless some are needed to aim at.
            held_out=config.held_out if of == "selection" or adaptive else 0.0,
            max_held_out=config.max_held_out,
            chosen=None if None in named else sorted({name for names in named for name in names or ()}),
        )
        self.student = build_student(student, content=content, seed=seed)
        self.items = feature_source(student, content=content, data=data, item_ids=self.item_ids)
        self.tower_learning_rate = student.tower_learning_rate
        self.encoder = RowEncoder(
            with_texts(self.items, self.data.texts, self.student, cache=cache),
            Instructions.read(config.instructions, self.student),
            item_ids=self.item_ids,
            texts=self.data.texts,
        )
        low, high = config.temperature_bounds
        # One temperature a dataset, whichever phase it serves; so a later phase goes on where an earlier one ended.
        self.names = list(self.data.datasets)
        temperatures = Temperatures(len(self.names), initial=config.temperature, low=low, high=high)
        fuses = any(phase.weights.late_fusion for phase in config.phases) and VISION in self.student.modalities
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            gate = LateFusionGate(self.student.config.dim) if fuses else None
        self.trainee = Trainee(self.student, temperatures, gate)
        if config.gradient_checkpointing:
            self.student.gradient_checkpointing_enable()
        # Alone, whatever the environment says: a leader that works while the others wait must not call on them.
        with clear_environment() if world.size == 1 else nullcontext():
            self.accelerator = Accelerator(
                gradient_accumulation_steps=config.accumulation, step_scheduler_with_optimizer=False, cpu=True
            )

    def run(
        self, phase: Phase, checkpoint: Path, key: str, log: LogFn, *, steps: int | None
    ) -> tuple[Fitted, dict[str, Any]]:
        """Train one phase; ``steps`` ends its schedule earlier, without validation. Also tells of its datasets."""
        config = self.config
        datasets = self._datasets(phase)
        self._check_objectives(phase, datasets)
        # Phases begin at step 0 each: with one seed for all, they would draw the same pairs in the same order.
        seed = self.seed + 1_000_003 * config.phases.index(phase)
        weights = dataset_weights(
            phase.sampling,
            config.balancing,
            datasets,
            benchmarks=self._benchmarks(),
            trainee=self.trainee,
            encoder=self.encoder,
            seed=seed,
        )
        sampler = Sampler(datasets, weights, specialised=phase.specialised, hard_negatives=phase.hard_negatives)
        rate = phase.learning_rate
        groups: list[dict[str, Any]] = [
            *parameter_groups(self.student, self.student.tuned, learning_rate=rate, share=self.tower_learning_rate),
            {"params": [p for part in self._heads() for p in part.parameters()], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=config.weight_decay)
        schedule = get_cosine_schedule_with_warmup(optimizer, round(config.warm_up * phase.steps), phase.steps + 1)
        model, prepared = self.accelerator.prepare(self.trainee, optimizer)
        step = PretrainStep(
            trainee=self.trainee,
            model=model,
            encoder=self.encoder,
            sampler=sampler,
            places=[self.names.index(dataset.name) for dataset in datasets],
            phase=phase,
            config=config,
            optimizer=prepared,
            schedule=schedule,
            accelerator=self.accelerator,
            world=self.world,
            seed=seed,
        )

        def validate() -> float:
            found = held_out_ndcg(self.trainee, datasets, self.encoder)
            return sum(found.values()) / len(found)

        validates = steps is None and any(len(dataset.held_query) for dataset in datasets)
        fitted = fit(
            step,
            steps=steps or phase.steps,
            seed=seed,
            state={
                "trainee": TrainedState(self.trainee),
                "optimizer": optimizer,
                "schedule": schedule,
                "sampler": sampler,
            },
            checkpoint=checkpoint,
            key=key,
            description=f"pretrain · {self.of} · {phase.name}",
            log=log,
            validate=validate if validates else None,
            validate_every=config.validate_every,
            patience=config.patience,
            world=self.world,
            keep=True,
        )
        self.accelerator.free_memory()
        return fitted, {
            dataset.name: {
                "pairs": len(dataset),
                "weight": weight,
                "temperature": self.trainee.temperatures(self.names.index(dataset.name)).item(),
                "threshold": None if math.isnan(threshold) else threshold,
            }
            for dataset, weight, threshold in zip(datasets, weights, sampler.thresholds.tolist(), strict=True)
        }

    def write(self, folder: Path) -> None:
        """Save the model and the catalogue's vectors."""
        self.student.eval().save_pretrained(folder / SUBJECT)
        provenance = {
            "kind": SUBJECT,
            "geometry": "cosine",
            "fit": self.of,
            "seed": self.seed,
            "prefixes": list(self.student.prefixes),
            "instruction": self.config.instruction,
        }
        vectors = self.student.encode_store(self.items, instruction=self.config.instruction)
        EmbeddingTable(self.item_ids, vectors, metadata=provenance).write(folder / f"{SUBJECT}.parquet")

    def _datasets(self, phase: Phase) -> list[PairDataset]:
        """The phase's datasets that have pairs."""
        chosen = [self.data.datasets[name] for name in phase.datasets or self.names]
        filled = [dataset for dataset in chosen if len(dataset)]
        if not filled:
            raise UserError(
                f"pretrain.phases: all datasets of '{phase.name}' are empty", remedy="see pairs.json for the reasons"
            )
        return filled

    def _check_objectives(self, phase: Phase, datasets: Sequence[PairDataset]) -> None:
        """Refuse an objective that would stay at zero."""
        if phase.weights.late_fusion and VISION not in self.student.modalities:
            raise UserError(
                f"pretrain: phase '{phase.name}' weighs late_fusion, but the student sees no pictures",
                remedy="set weights.late_fusion to 0, or encode images",
            )
        if phase.weights.cosent and not any(dataset.graded for dataset in datasets):
            raise UserError(
                f"pretrain: phase '{phase.name}' weighs cosent, but none of its datasets is graded "
                f"({', '.join(dataset.name for dataset in datasets)})",
                remedy="set weights.cosent to 0, or name a graded dataset; pairs.json says which are",
            )

    def _benchmarks(self) -> list[PairDataset]:
        """The datasets whose held-out pairs are what is asked."""
        return [self.data.datasets[name] for name in self.config.balancing.benchmarks or self.names]

    def _heads(self) -> list[nn.Module]:
        return [part for part in (self.trainee.temperatures, self.trainee.gate) if part is not None]
