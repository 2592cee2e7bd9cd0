"""The teach stage: train the teachers of one fold, and export their tables.

Fit ``selection`` trains on the training window and is stopped by the validation window; fit ``final`` trains on
both for the number of steps that ``selection`` found best. Killed at any moment, the stage goes on where it was:
a finished table is kept, an unfinished training resumes from its checkpoint, at any number of processes.

Memory: the material's (see :class:`Material`) and one teacher's (see :class:`Trained`) at a time; the validation
window's questions beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.tables import EmbeddingTable, read_metadata, read_table, write_json
from recdistill.errors import UserError
from recdistill.retrieval.config import QuestionsConfig
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
from recdistill.teachers.external import read_external
from recdistill.teachers.features import sparse_features
from recdistill.teachers.fusion import fuse
from recdistill.teachers.ials import ials_vectors
from recdistill.teachers.material import FOLD_SEED, Material
from recdistill.teachers.trained import Trained
from recdistill.teachers.validation import Questions, Score
from recdistill.training import LogFn
from recdistill.world import World

REPORT = "teachers.json"

_REPORTED = ("kind", "geometry", "dim", "steps", "judged_by", "scores")
_COUNTED = ("unknown_ids", "withheld_cold_ids", "slots", "epochs")


def teach(
    config: TeachersConfig,
    questions: QuestionsConfig,
    *,
    fold: Fold,
    items: Path,
    out: Path,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
    world: World = World(),
) -> None:
    """Write ``out/{selection,final}/<name>.parquet`` for every teacher, and ``out/teachers.json``.

    A teacher with vectors of users leaves them in ``users/<name>.parquet`` beside its table of items.

    Args:
        questions: those of the validation window stop the training.
        items: the catalogue's table, of which sparse features are read.
        seed: of initial values, draws and dropout.
        key: fingerprint of settings and data; a table or checkpoint of another key is not used.
        log: gives each curve's log: ``<name>`` and ``<name>_final``.
        world: the processes that train together; each of them makes this call, and the leader writes.

    Raises:
        UserError: nothing to train on, nothing to ask, an external table breaks its contract, or managed slots are
            asked of several processes.
        Diverged: a loss is not finite.
    """
    if config.id is not None and config.id.slots is not None and world.size > 1:
        raise UserError(
            f"teachers.id.slots: managed slots are of one process, not of {world.size}",
            remedy="run without torchrun, or leave slots out: sharded tables hold a row for every item",
        )
    # First: a user's mistake shows before any training, here and in the run's own beginning.
    external = world.first(partial(_read_externals, config, fold)) or {}
    run = _Run(config, questions, fold, items=items, out=out, seed=seed, key=key, log=log, world=world)
    for name, trained in ((ID_TEACHER, config.id), (SEQUENCE_TEACHER, config.sequence)):
        if trained is not None:
            run.train(name, trained)
    if world.leads:
        if config.ials is not None:
            run.add(IALS_TEACHER, partial(run.ials, config.ials))
        if config.ease is not None:
            run.add(EASE_TEACHER, partial(run.ease, config.ease))
        for name, tables in external.items():
            run.add(name, tables.__getitem__)
        if config.fusion is not None:
            run.add(FUSION_TEACHER, partial(run.fusion, config.fusion))
        run.report()
        run.clear()


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
    """What the teachers of one fold share: material, questions, and where things go."""

    def __init__(
        self,
        config: TeachersConfig,
        questions: QuestionsConfig,
        fold: Fold,
        *,
        items: Path,
        out: Path,
        seed: int,
        key: str,
        log: Callable[[str], LogFn],
        world: World,
    ) -> None:
        self._config, self._items, self._out, self._seed = config, items, out, seed
        self._key, self._log, self._world = key, log, world
        self._catalogue = fold.item_ids()
        self._material = {
            which: Material(config, fold, which, scratch=self._scratch(which), key=key, world=world) for which in FITS
        }
        self._asked = partial(
            Questions,
            questions,
            fold,
            state_length=config.sequence.length if config.sequence is not None else 1,
            seed=FOLD_SEED,
        )
        self._names: list[str] = []
        world.first(self._begin)

    def _begin(self) -> None:
        """Make what could fail: questions of a window that asks nothing, confidence of too few items."""
        _ = self._questions
        for material in self._material.values():
            _ = material.confidence

    @cached_property
    def _questions(self) -> Questions:
        return self._asked()

    @cached_property
    def _popularity(self) -> Score:
        material = self._material["selection"]
        known = self._catalogue.get_indexer(material.item_ids)
        support, present = np.zeros(len(self._catalogue), dtype=np.int64), np.zeros(len(self._catalogue), dtype=bool)
        support[known], present[known] = material.support.numpy(), True
        return Score.of(self._questions.of_popularity(support, present))

    def train(self, name: str, config: IdTeacherConfig | SequenceTeacherConfig) -> None:
        """Train both fits (those that are not there yet)."""
        self._names.append(name)
        steps = config.steps
        for which in FITS:
            path = self._path(which, name)
            if not self._world.agree(self._finished(path)):
                material = self._material[which]
                features = (
                    sparse_features(
                        self._items,
                        fields=config.features,
                        item_ids=material.item_ids,
                        min_items=config.feature_min_items,
                    )
                    if isinstance(config, IdTeacherConfig)
                    else ()
                )
                trained = Trained(
                    name,
                    config,
                    material,
                    which,
                    path=path,
                    seed=self._seed,
                    key=self._key,
                    features=features,
                    world=self._world,
                    sharding=self._config.sharding,
                )
                trained.run(
                    steps=steps,
                    questions=self._questions if self._world.leads else None,
                    log=self._log(name if which == "selection" else f"{name}_final"),
                )
            if which == "selection":
                steps = self._world.agree(read_metadata(path)["steps"] if self._world.leads else None)

    def add(self, name: str, make: Callable[[Fit], EmbeddingTable]) -> None:
        """Write the tables of a teacher that takes no steps (those that are not there yet)."""
        self._names.append(name)
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

    def ials(self, config: IalsConfig, which: Fit) -> EmbeddingTable:
        """Item factors of one fit."""
        positives = self._material[which].positives
        vectors = ials_vectors(
            positives, dim=config.dim, alpha=config.alpha, l2=config.l2, iterations=config.iterations, seed=self._seed
        )
        return self._table(which, vectors, {"kind": IALS_TEACHER, "geometry": config.geometry, "dim": config.dim})

    def ease(self, config: EaseTeacherConfig, which: Fit) -> EmbeddingTable:
        """EASE's vectors of one fit."""
        positives = self._material[which].positives
        vectors = ease_vectors(positives, dim=config.dim, l2=config.l2, max_items=config.max_items)
        return self._table(which, vectors, {"kind": EASE_TEACHER, "geometry": config.geometry, "dim": config.dim})

    def fusion(self, config: FusionConfig, which: Fit) -> EmbeddingTable:
        """Teachers of one fit that were written before, as one."""
        return fuse([EmbeddingTable.read(self._path(which, name)) for name in config.of], dim=config.dim)

    def report(self) -> None:
        """Write what validation said of each teacher, with popularity's score to compare with."""
        asked = {
            "cases": len(self._questions),
            "users": self._questions.users,
            "popularity": asdict(self._popularity),
        }
        teachers = {name: self._about(name) for name in self._names}
        write_json({"validation": asked, "teachers": teachers}, self._out / REPORT)

    def clear(self) -> None:
        """Remove what was written for the training alone."""
        for which in FITS:
            shutil.rmtree(self._scratch(which), ignore_errors=True)

    def _table(self, which: Fit, vectors: np.ndarray, metadata: dict[str, Any]) -> EmbeddingTable:
        """Rows of the items with a positive: without one, a closed form knows nothing of an item."""
        material = self._material[which]
        support = material.support.numpy()
        known = support > 0
        return EmbeddingTable(
            material.item_ids[known], vectors[known], support[known], material.confidence[known], metadata
        )

    def _path(self, which: Fit, name: str) -> Path:
        return self._out / which / f"{name}.parquet"

    def _scratch(self, which: Fit) -> Path:
        return self._out / which / "positives"

    def _finished(self, path: Path) -> bool:
        return path.exists() and read_metadata(path).get("key") == self._key

    def _about(self, name: str) -> dict[str, Any]:
        """A teacher's part of the report, from the metadata of its tables."""
        about = {which: read_metadata(self._path(which, name)) for which in FITS}
        selection = about["selection"]
        part: dict[str, Any] = {key: selection[key] for key in _REPORTED if key in selection}
        part["beats_popularity"] = selection["scores"]["mean"]["ndcg_at_10"] > self._popularity.ndcg_at_10
        for which in FITS:
            items = read_table(self._path(which, name), columns=[]).num_rows
            part[which] = {"items": items, "coverage": round(items / len(self._catalogue), 4)}
            part[which] |= {key: about[which][key] for key in _COUNTED if key in about[which]}
        part["curve"] = selection.get("curve", [])
        return part
