"""One trained teacher of one fit: its steps, its score on validation, its tables of items and users.

In several processes every rank does all of this, since steps and reading of tables are collective; the leader alone
scores, logs and writes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from recdistill.checkpoint import remove
from recdistill.contracts.fold import Fit
from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig, Sharding
from recdistill.teachers.id_teacher import IdTeacher
from recdistill.teachers.material import Material
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.stream import Streamed
from recdistill.teachers.tables import SparseFeature
from recdistill.teachers.validation import Questions, Score
from recdistill.training import Fitted, LogFn, fit
from recdistill.world import World

# Below a fit's folder, whose own tables are of items.
USERS = "users"


class Trained:
    """A teacher under training.

    Memory, V items and U users of width d, over W ranks: 4·(V + U)·(d + 1)/W bytes for tables and as much again for
    the best state, as well as 4·V·d on every rank for the whole table, and on the leader, while it scores the table,
    about 20·V·d more: ranks are computed in double precision.

    Args:
        name: the teacher's, and its tables'.
        which: ``selection`` stops by the questions' score; ``final`` takes the steps it is told.
        path: of the item table; the checkpoint and the table of users go beside it.
        key: fingerprint of settings and data.
        features: sparse features of the vocabulary's items (ID teacher only).
    """

    def __init__(
        self,
        name: str,
        config: IdTeacherConfig | SequenceTeacherConfig,
        material: Material,
        which: Fit,
        *,
        path: Path,
        seed: int,
        key: str,
        features: Sequence[SparseFeature],
        world: World,
        sharding: Sharding,
    ) -> None:
        self._name, self._config, self._material, self._which = name, config, material, which
        self._path, self._seed, self._key, self._world = path, seed, key, world
        self._checkpoint = path.with_suffix(".checkpoint")
        self._users = material.batches(config, seed=seed)
        self._teacher: Teacher
        if isinstance(config, SequenceTeacherConfig):
            self._teacher = build_sequence_teacher(config, self._users, seed=seed, world=world, sharding=sharding)
            self._judged_by = config.select_by
        else:
            self._teacher = build_id_teacher(
                config, self._users, seed=seed, features=features, world=world, sharding=sharding
            )
            self._judged_by = "mean"

    def run(self, *, steps: int, questions: Questions | None, log: LogFn) -> None:
        """Train, and write the tables of users (if the teacher has users' vectors) and items.

        Args:
            steps: most steps of ``selection``, all of ``final``.
            questions: of the validation window; the leader needs them.
        """
        selecting = self._which == "selection"
        started = time.perf_counter()
        fitted = fit(
            self._teacher.step,
            steps=steps,
            seed=self._seed,
            state=self._teacher.state,
            checkpoint=self._checkpoint,
            key=f"{self._key}/{self._which}/{self._name}",
            description=f"teach · {self._name.replace('_', ' ')} · {self._which}",
            log=log,
            validate=(lambda: self._validate(questions)) if selecting else None,
            validate_every=self._config.validate_every if selecting else 0,
            patience=self._config.patience if selecting else 0,
            world=self._world,
            keep=True,
        )
        told: dict[str, Any] = {"steps": fitted.best_step}
        if isinstance(self._users, Streamed):
            seconds = time.perf_counter() - started
            if self._world.leads:
                log({"loader_share": self._users.drawn / seconds, "loader_waits": self._users.waited / seconds}, steps)
            told["epochs"] = round(fitted.steps / self._users.steps_an_epoch, 4)
            self._users.close()
        vectors = self._teacher.vectors()
        about: dict[str, Any] = {
            "kind": self._name, "fit": self._which, "geometry": self._config.geometry, "dim": self._config.dim,
            "seed": self._seed, "key": self._key,
        }  # fmt: skip
        # First the users: with the items' table this fit counts as done, and not before it the checkpoint goes.
        self._write_users(vectors, about)
        if self._world.leads:
            self._write_items(vectors, about | told | self._judged(vectors, fitted, questions))
        remove(self._checkpoint, world=self._world)

    def _judged(self, vectors: Tensor, fitted: Fitted, questions: Questions | None) -> dict[str, Any]:
        """What the item table says of the training besides its length."""
        told: dict[str, Any] = {}
        if isinstance(self._teacher, IdTeacher) and (slots := self._teacher.slots_report()) is not None:
            told["slots"] = slots
        if questions is not None and self._which == "selection":
            forms = ("mean", "state") if isinstance(self._teacher, SequenceTeacher) else ("mean",)
            told["scores"] = {form: asdict(self._score(form, vectors, questions)) for form in forms}
            told |= {"judged_by": self._judged_by, "curve": fitted.curve}
        return told

    def _write_items(self, vectors: Tensor, metadata: dict[str, Any]) -> None:
        rows = self._teacher.rows().numpy()
        if not len(rows):
            raise UserError(
                f"{self._name}: no item holds one of the managed slots after {metadata['steps']} steps",
                remedy="lower teachers.id.slots.admit_after or .every, or give it more steps",
            )
        support, confidence = self._material.support.numpy(), self._material.confidence
        ids = self._material.item_ids[rows]
        EmbeddingTable(ids, vectors.numpy(), support[rows], confidence[rows], metadata).write(self._path)

    def _write_users(self, vectors: Tensor, metadata: dict[str, Any]) -> None:
        """Users' vectors: rows of the user table, or states behind their last items when the window ends."""
        users = self._teacher.user_vectors(vectors, self._material.blocks)
        if users is None or not self._world.leads:
            return
        ids = np.concatenate([block.user_ids.to_numpy() for block in self._material.blocks()])
        about = metadata | {"item_table": self._name}
        if users.asked_at is not None:
            about["asked_at"] = pd.Timestamp(users.asked_at, unit="us", tz="UTC").isoformat()
        EmbeddingTable(
            pd.Index(ids[users.user.numpy()]),
            users.vectors.numpy(),
            users.support.numpy(),
            None,
            about,
            id_column="user_id",
        ).write(self._path.parent / USERS / self._path.name)

    def _validate(self, questions: Questions | None) -> float:
        """Collective; the leader's score counts."""
        vectors = self._teacher.vectors()
        return float("nan") if questions is None else self._score(self._judged_by, vectors, questions).ndcg_at_10

    def _score(self, form: str, vectors: Tensor, questions: Questions) -> Score:
        """By the mean of a query's vectors, or by the state behind it."""
        known = questions.item_ids.get_indexer(self._material.item_ids[self._teacher.rows().numpy()])
        if form == "state" and isinstance(self._teacher, SequenceTeacher):
            states = partial(self._teacher.user_states, vectors)
            return Score.of(questions.of_states(states, vectors.numpy(), known))
        table = np.zeros((len(questions.item_ids), vectors.shape[1]), dtype=np.float32)
        table[known] = vectors.numpy()
        present = np.zeros(len(table), dtype=bool)
        present[known] = True
        return Score.of(questions.of_table(table, present, cosine=self._config.geometry == "cosine"))
