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

from recdistill.contracts.fold import Fit
from recdistill.contracts.tables import EmbeddingTable
from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.id_teacher import IdTeacher
from recdistill.teachers.material import Material
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.sharding import Sharding
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
    the best state; the whole table once more while it is scored, on every rank, and written.

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
            checkpoint=self._path.with_suffix(".checkpoint"),
            key=f"{self._key}/{self._which}/{self._name}",
            description=f"teach · {self._name.replace('_', ' ')} · {self._which}",
            log=log,
            validate=(lambda: self._score(self._judged_by, questions).ndcg_at_10) if selecting else None,
            validate_every=self._config.validate_every if selecting else 0,
            patience=self._config.patience if selecting else 0,
            world=self._world,
        )
        if isinstance(self._users, Streamed):
            seconds = time.perf_counter() - started
            log({"loader_share": self._users.drawn / seconds, "loader_waits": self._users.waited / seconds}, steps)
            self._users.close()
        about: dict[str, Any] = {
            "kind": self._name, "fit": self._which, "geometry": self._config.geometry, "dim": self._config.dim,
            "seed": self._seed, "key": self._key,
        }  # fmt: skip
        # First the users: with the items' table this fit counts as done.
        self._write_users(about)
        self._write_items(about | self._told(fitted, questions))

    def _told(self, fitted: Fitted, questions: Questions | None) -> dict[str, Any]:
        """What the item table says of the training."""
        told: dict[str, Any] = {"steps": fitted.best_step}
        if isinstance(self._teacher, IdTeacher) and (slots := self._teacher.slots_report()) is not None:
            told["slots"] = slots
        if self._which == "selection":
            forms = ("mean", "state") if isinstance(self._teacher, SequenceTeacher) else ("mean",)
            told["scores"] = {form: asdict(self._score(form, questions)) for form in forms}
            told |= {"judged_by": self._judged_by, "curve": fitted.curve}
        return told

    def _write_items(self, metadata: dict[str, Any]) -> None:
        rows, vectors = self._teacher.rows().numpy(), self._teacher.vectors().numpy()
        if self._world.leads:
            support, confidence = self._material.support.numpy(), self._material.confidence
            ids = self._material.item_ids[rows]
            EmbeddingTable(ids, vectors, support[rows], confidence[rows], metadata).write(self._path)

    def _write_users(self, metadata: dict[str, Any]) -> None:
        """Users' vectors: rows of the user table, or states behind their last items when the window ends."""
        vectors = self._teacher.user_vectors(self._material.blocks)
        if vectors is not None and self._world.leads:
            blocks = [(block.user_ids, block.counts.numpy()) for block in self._material.blocks()]
            ids = pd.Index(np.concatenate([ids.to_numpy() for ids, _ in blocks]))
            support = np.concatenate([counts for _, counts in blocks])
            about = metadata | {"item_table": self._name}
            table = EmbeddingTable(ids, vectors.numpy(), support, None, about, id_column="user_id")
            table.write(self._path.parent / USERS / self._path.name)

    def _score(self, form: str, questions: Questions | None) -> Score:
        """By the mean of a query's vectors, or by the state behind it; of the leader alone."""
        teacher, rows, of_rows = self._teacher, self._teacher.rows().numpy(), self._teacher.vectors()
        if questions is None:
            return Score(float("nan"), float("nan"))
        known = questions.item_ids.get_indexer(self._material.item_ids[rows])
        if form == "state" and isinstance(teacher, SequenceTeacher):
            states = partial(teacher.user_states, of_rows)
            return Score.of(questions.of_states(states, of_rows.numpy(), known))
        table = np.zeros((len(questions.item_ids), of_rows.shape[1]), dtype=np.float32)
        table[known] = of_rows.numpy()
        present = np.zeros(len(table), dtype=bool)
        present[known] = True
        return Score.of(questions.of_table(table, present, cosine=self._config.geometry == "cosine"))
