"""The teach stage: train the teachers of one fold, and export their tables.

Fit ``selection`` trains on the training window and is stopped by the validation window; fit ``final`` trains on
both for the number of steps that ``selection`` found best. Killed at any moment, the stage goes on where it was:
a finished table is kept, an unfinished training resumes from its checkpoint.

Memory, for n training positives, V items with interactions, U users, d width: 24·n + 4·(V + U)·(d + 1) bytes for
data and tables, three times the tables while the best state and a checkpoint are held, and the models' own step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.tables import EmbeddingTable, read_metadata, write_json
from recdistill.retrieval.config import QuestionsConfig
from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import (
    EASE_TEACHER,
    FUSION_TEACHER,
    IALS_TEACHER,
    ID_TEACHER,
    SEQUENCE_TEACHER,
    EaseTeacherConfig,
    FusionConfig,
    IalsConfig,
    IdTeacherConfig,
    SequenceTeacherConfig,
    TeachersConfig,
)
from recdistill.teachers.ease import ease_vectors
from recdistill.teachers.external import confidence_of, read_external
from recdistill.teachers.fusion import fuse
from recdistill.teachers.ials import ials_vectors
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.validation import Questions, Score
from recdistill.training import LogFn, fit

REPORT = "teachers.json"
# Questions and the order of ties are part of the fold, not of a run: every seed meets the same ones.
_FOLD_SEED = 0

_REPORTED = ("kind", "geometry", "dim", "steps", "judged_by", "scores")
_DROPPED = ("unknown_ids", "withheld_cold_ids")


def teach(
    config: TeachersConfig,
    questions: QuestionsConfig,
    *,
    fold: Fold,
    out: Path,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
) -> None:
    """Write ``out/{selection,final}/<name>.parquet`` for every teacher, and ``out/teachers.json``.

    Args:
        questions: those of the validation window stop the training.
        seed: of initial values, draws and dropout.
        key: fingerprint of settings and data; a table or checkpoint of another key is not used.
        log: gives each curve's log: ``<name>`` and ``<name>_final``.

    Raises:
        UserError: nothing to train on, nothing to ask, or an external table breaks its contract.
        Diverged: a loss is not finite.
    """
    external = _read_externals(config, fold)  # first: a user's mistake shows before any training
    run = _Run(config, questions, fold, out=out, seed=seed, key=key, log=log)
    report: dict[str, Any] = {}
    if config.id is not None:
        report[ID_TEACHER] = run.train(ID_TEACHER, config.id)
    if config.sequence is not None:
        report[SEQUENCE_TEACHER] = run.train(SEQUENCE_TEACHER, config.sequence)
    if config.ials is not None:
        report[IALS_TEACHER] = run.add(IALS_TEACHER, partial(run.ials, config.ials))
    if config.ease is not None:
        report[EASE_TEACHER] = run.add(EASE_TEACHER, partial(run.ease, config.ease))
    for name, tables in external.items():
        report[name] = run.add(name, tables.__getitem__)
    if config.fusion is not None:
        report[FUSION_TEACHER] = run.add(FUSION_TEACHER, partial(run.fusion, config.fusion))
    write_json({"validation": run.validation(), "teachers": report}, out / REPORT)


def _read_externals(config: TeachersConfig, fold: Fold) -> dict[str, dict[Fit, EmbeddingTable]]:
    catalogue = fold.item_ids()
    return {
        table.name: {
            which: read_external(
                table.path,
                name=table.name,
                geometry=table.geometry,
                catalogue=catalogue,
                cold=fold.cold(which),
                confidence_prior=config.confidence_prior,
            )
            for which in FITS
        }
        for table in config.external
    }


class _Run:
    """What the teachers of one fold share: data, questions, and where things go."""

    def __init__(
        self,
        config: TeachersConfig,
        questions: QuestionsConfig,
        fold: Fold,
        *,
        out: Path,
        seed: int,
        key: str,
        log: Callable[[str], LogFn],
    ) -> None:
        self._config, self._out, self._seed, self._key, self._log = config, out, seed, key, log
        self._catalogue = fold.item_ids()
        self._positives = {
            which: Positives.of(
                fold.training(which), min_behaviours=config.min_behaviours, last=config.last, seed=_FOLD_SEED
            )
            for which in FITS
        }
        self._questions = Questions(
            questions,
            fold,
            state_length=config.sequence.length if config.sequence is not None else 1,
            seed=_FOLD_SEED,
        )
        positives = self._positives["selection"]
        known = self._catalogue.get_indexer(positives.item_ids)
        support = np.zeros(len(self._catalogue), dtype=np.int64)
        support[known] = positives.support.numpy()
        self._popularity = Score.of(self._questions.of_popularity(support, self._present(known)))

    def validation(self) -> dict[str, Any]:
        """What the report says of the questions, with popularity's score to compare with."""
        return {
            "cases": len(self._questions),
            "users": self._questions.users,
            "popularity": asdict(self._popularity),
        }

    def train(self, name: str, config: IdTeacherConfig | SequenceTeacherConfig) -> dict[str, Any]:
        """Train both fits (those that are not there yet); returns the teacher's part of the report."""
        steps = config.steps
        for which in FITS:
            path = self._path(which, name)
            if not self._finished(path):
                self._fit(name, config, which, steps=steps).write(path)
            if which == "selection":
                steps = read_metadata(path)["steps"]
        return self._about(name)

    def add(self, name: str, make: Callable[[Fit], EmbeddingTable]) -> dict[str, Any]:
        """Write the tables of a teacher that takes no steps (those that are not there yet); returns its part."""
        for which in FITS:
            path = self._path(which, name)
            if self._finished(path):
                continue
            table = make(which)
            metadata = {**table.metadata, "fit": which, "seed": self._seed, "key": self._key}
            if which == "selection":
                vectors, present = table.align(self._catalogue)
                ranks = self._questions.of_table(vectors, present, cosine=metadata["geometry"] == "cosine")
                metadata["scores"] = {"mean": asdict(Score.of(ranks))}
            EmbeddingTable(table.ids, table.vectors, table.support, table.confidence, metadata).write(path)
        return self._about(name)

    def ials(self, config: IalsConfig, which: Fit) -> EmbeddingTable:
        """Item factors of one fit."""
        positives = self._positives[which]
        vectors = ials_vectors(
            positives, dim=config.dim, alpha=config.alpha, l2=config.l2, iterations=config.iterations, seed=self._seed
        )
        return self._table(positives, vectors, {"kind": IALS_TEACHER, "geometry": config.geometry, "dim": config.dim})

    def ease(self, config: EaseTeacherConfig, which: Fit) -> EmbeddingTable:
        """EASE's vectors of one fit."""
        positives = self._positives[which]
        vectors = ease_vectors(positives, dim=config.dim, l2=config.l2, max_items=config.max_items)
        return self._table(positives, vectors, {"kind": EASE_TEACHER, "geometry": config.geometry, "dim": config.dim})

    def fusion(self, config: FusionConfig, which: Fit) -> EmbeddingTable:
        """Teachers of one fit that were written before, as one."""
        return fuse([EmbeddingTable.read(self._path(which, name)) for name in config.of], dim=config.dim)

    def _table(self, positives: Positives, vectors: np.ndarray, metadata: dict[str, Any]) -> EmbeddingTable:
        """Rows of the items with a positive: without one, a closed form knows nothing of an item."""
        support = positives.support.numpy()
        known = support > 0
        confidence = confidence_of(support[known], prior=self._config.confidence_prior)
        return EmbeddingTable(positives.item_ids[known], vectors[known], support[known], confidence, metadata)

    def _path(self, which: Fit, name: str) -> Path:
        return self._out / which / f"{name}.parquet"

    def _finished(self, path: Path) -> bool:
        return path.exists() and read_metadata(path).get("key") == self._key

    def _fit(
        self, name: str, config: IdTeacherConfig | SequenceTeacherConfig, which: Fit, *, steps: int
    ) -> EmbeddingTable:
        positives = self._positives[which]
        users = InMemory(positives, power=config.user_power)
        teacher: Teacher
        if isinstance(config, SequenceTeacherConfig):
            teacher, judged_by = build_sequence_teacher(config, users, seed=self._seed), config.select_by
        else:
            teacher, judged_by = build_id_teacher(config, users, seed=self._seed), "mean"
        cosine, selecting = config.geometry == "cosine", which == "selection"
        fitted = fit(
            teacher.step,
            steps=steps,
            seed=self._seed,
            state=teacher.state,
            checkpoint=self._path(which, name).with_suffix(".checkpoint"),
            key=f"{self._key}/{which}/{name}",
            description=f"teach · {name.replace('_', ' ')} · {which}",
            log=self._log(name if selecting else f"{name}_final"),
            validate=(lambda: self._score(teacher, positives, judged_by, cosine).ndcg_at_10) if selecting else None,
            validate_every=config.validate_every if selecting else 0,
            patience=config.patience if selecting else 0,
        )
        metadata: dict[str, Any] = {
            "kind": name, "fit": which, "geometry": config.geometry, "dim": config.dim, "seed": self._seed,
            "key": self._key, "steps": fitted.best_step,
        }  # fmt: skip
        if selecting:
            forms = ("mean", "state") if isinstance(teacher, SequenceTeacher) else ("mean",)
            metadata["scores"] = {form: asdict(self._score(teacher, positives, form, cosine)) for form in forms}
            metadata["judged_by"] = judged_by
            metadata["curve"] = fitted.curve
        support = positives.support.numpy()
        confidence = confidence_of(support, prior=self._config.confidence_prior)
        return EmbeddingTable(positives.item_ids, teacher.vectors().numpy(), support, confidence, metadata)

    def _score(self, teacher: Teacher, positives: Positives, form: str, cosine: bool) -> Score:
        known, vectors = self._catalogue.get_indexer(positives.item_ids), teacher.vectors().numpy()
        if form == "state" and isinstance(teacher, SequenceTeacher):
            return Score.of(self._questions.of_states(teacher.user_states, vectors, known))
        table, present = np.zeros((len(self._catalogue), vectors.shape[1]), dtype=np.float32), self._present(known)
        table[known] = vectors
        return Score.of(self._questions.of_table(table, present, cosine=cosine))

    def _present(self, known: np.ndarray) -> np.ndarray:
        present = np.zeros(len(self._catalogue), dtype=bool)
        present[known] = True
        return present

    def _about(self, name: str) -> dict[str, Any]:
        """A teacher's part of the report, from the metadata of its tables."""
        about = {which: read_metadata(self._path(which, name)) for which in FITS}
        selection = about["selection"]
        part: dict[str, Any] = {key: selection[key] for key in _REPORTED if key in selection}
        part["beats_popularity"] = selection["scores"]["mean"]["ndcg_at_10"] > self._popularity.ndcg_at_10
        for which in FITS:
            ids = EmbeddingTable.read(self._path(which, name)).ids
            part[which] = {"items": len(ids), "coverage": round(len(ids) / len(self._catalogue), 4)}
            part[which] |= {key: about[which][key] for key in _DROPPED if key in about[which]}
        part["curve"] = selection.get("curve", [])
        return part
