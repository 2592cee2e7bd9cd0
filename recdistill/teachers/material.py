"""What the teachers of one fit learn from: users' positives, held in memory or streamed from disk."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from torch import Tensor

from recdistill.contracts.fold import Fit, Fold
from recdistill.teachers.confidence import confidence_of, halves_confidence
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig, TeachersConfig
from recdistill.teachers.parts import Parts, write_parts
from recdistill.teachers.positives import InMemory, Positives, UserBatches
from recdistill.teachers.stream import Streamed
from recdistill.world import World

# The order of ties is part of the fold, not of a run: every seed meets the same one.
FOLD_SEED = 0


class Material:
    """Positives of one fit, and what they say of the items.

    Memory: 20 bytes a positive up to ``stream.above`` training interactions, from there two windows of parts; and 16
    bytes an item. Closed-form teachers and confidence by halves read the whole in any case.

    Args:
        scratch: where parts are written; those of the same key that are there already are used.
        key: fingerprint of settings and data.
        world: its leader writes the parts, and every rank reads them.

    Raises:
        UserError: nobody has two positives.
    """

    def __init__(
        self, config: TeachersConfig, fold: Fold, which: Fit, *, scratch: Path, key: str, world: World
    ) -> None:
        self._config, self._fold, self._which = config, fold, which
        events = sum(pq.read_metadata(path).num_rows for path in fold.training_files(which))
        self._parts: Parts | None = None
        if events > config.stream.above:
            write = partial(
                write_parts,
                fold,
                which,
                scratch,
                key=key,
                min_behaviours=config.min_behaviours,
                last=config.last,
                seed=FOLD_SEED,
                part_positives=config.stream.part,
            )
            world.first(write)
            self._parts = Parts.open(scratch)

    @cached_property
    def positives(self) -> Positives:
        """All of them, in memory."""
        return Positives.of(
            self._fold.training(self._which),
            min_behaviours=self._config.min_behaviours,
            last=self._config.last,
            seed=FOLD_SEED,
        )

    @property
    def item_ids(self) -> pd.Index:
        """[V] the vocabulary."""
        return self.positives.item_ids if self._parts is None else self._parts.item_ids

    @property
    def support(self) -> Tensor:
        """[V] int64 positive interactions of each item."""
        return self.positives.support if self._parts is None else self._parts.support

    def batches(self, config: IdTeacherConfig | SequenceTeacherConfig, *, seed: int) -> UserBatches:
        """Where a teacher gets its users from."""
        if self._parts is None:
            return InMemory(self.positives, power=config.user_power)
        return Streamed(
            self._parts,
            power=config.user_power,
            seed=seed,
            batch=config.batch,
            window_parts=self._config.stream.window_parts,
        )

    def blocks(self) -> Iterator[Positives]:
        """Everything, some users at a time, in the order of the batches' numbers."""
        if self._parts is None:
            yield self.positives
        else:
            for part in range(len(self._parts)):
                yield self._parts.read(part)

    @cached_property
    def confidence(self) -> np.ndarray:
        """[V] float32 in [0, 1]: how far a vector that was learned from these may be trusted."""
        if self._config.confidence == "support":
            return confidence_of(self.support.numpy(), prior=self._config.confidence_prior)
        halves = self._config.halves
        return halves_confidence(
            self.positives,
            dim=halves.dim,
            neighbours=halves.neighbours,
            references=halves.references,
            splits=halves.splits,
            prior=halves.prior,
            seed=FOLD_SEED,
        )
