"""A small world with all that the distill stage reads: every user likes one topic, and a tag among noise shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import recdistill.distill.training as module
from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.inputs import Inputs
from recdistill.distill.stage import distill
from recdistill.distill.step import DistillStep
from recdistill.distill.subjects import Subject
from recdistill.distill.training import Training
from recdistill.evaluation.config import EvaluateConfig
from recdistill.retrieval.config import QuestionsConfig
from recdistill.students import EncodersConfig, FeatureStore, StudentConfig, encode

USERS, ITEMS, TOPICS = 40, 80, 4
IDS = pd.Index([f"i{row:02d}" for row in range(ITEMS)])
TOPIC = np.arange(ITEMS) % TOPICS
WORDS = np.array(["a ghost in the night", "the king of the sea", "dogs", "a war for gold"])
STUDENT = StudentConfig(dim=16, prefixes=(8,), dropout=0.0, skip=None)
JUDGING = EvaluateConfig.model_validate({"i2i": {"min_support": 2}})
QUESTIONS = QuestionsConfig(min_history=2)


@dataclass
class TopicalWorld:
    """Folders of the stages before distill."""

    root: Path
    curves: dict[str, list[tuple[int, dict[str, float]]]] = field(default_factory=dict)

    @classmethod
    def plant(cls, root: Path, *, new: int = 0, titled: bool = False) -> TopicalWorld:
        """Write it; the last ``new`` items are met in validation and test alone.

        Args:
            titled: a title tells the topic, and tags are noise alone.
        """
        rng = np.random.default_rng(0)
        world = cls(root)
        noise = [[f"noise {at}" for at in rng.choice(30, 5, replace=False)] for _ in range(ITEMS)]
        tags = noise if titled else [[f"topic {TOPIC[row]}", *noise[row]] for row in range(ITEMS)]
        columns = {names.ITEM_ID: pa.array(IDS), "tags_tag": pa.array(tags, pa.list_(pa.string()))}
        items = pa.table(columns | ({"text_title": pa.array(WORDS[TOPIC])} if titled else {}))
        write_table(items, root / "data" / "items.parquet")
        media = {name: pa.array([], pa.string()) for name in ("media_id", "path")}
        write_table(pa.table({**media, "bytes": pa.array([], pa.binary())}), root / "data" / "media.parquet")
        encoders = EncodersConfig.model_validate(
            {
                "text": {} if titled else None,
                "image": None,
                "audio": None,
                "structured": {"direct_values": 64, "number_bins": 0},
                "cache": root / "cache",
            }
        )
        encode(encoders, data=root / "data", out=world.content)
        _write_log(world.fold.root, rng, new=new)
        truth = np.eye(TOPICS)[TOPIC]
        for fit in FITS:
            _write_pairs(world.fold, fit, root / "mine" / fit / "interest_pairs.parquet")
            for name, vectors, geometry in (
                ("good", truth + rng.normal(0, 0.2, truth.shape), "cosine"),
                ("dotted", 3 * truth + rng.normal(0, 0.5, truth.shape), "dot"),
                ("noise", rng.normal(size=(ITEMS, 4)), "cosine"),
            ):
                known = np.arange(ITEMS) % 11 > 0  # some items have no vector
                EmbeddingTable(
                    IDS[known],
                    vectors[known].astype(np.float32),
                    None,
                    rng.uniform(0.3, 1, known.sum()).astype(np.float32),
                    {"geometry": geometry},
                ).write(root / "teach" / fit / f"{name}.parquet")
        return world

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def fold(self) -> Fold:
        return Fold(self.root / "split" / "time")

    def inputs(self) -> Inputs:
        """What trainings read."""
        features = FeatureStore.load(self.content, IDS)
        folders = (self.root / "teach", self.root / "mine", self.root / "predicted")
        return Inputs(self.fold, features, self.content, *folders, None)

    def training(self, trial: Mapping[str, Any], **config: Any) -> Training:
        """One training of the selection fit."""
        of = _trial(trial)
        settings = _settings({"teachers": ("good",), "batch_size": 48, "trials": [of], **config})
        return Training(settings, STUDENT, Subject("student", (of,)), of, self.inputs(), of="selection", seed=0)

    def distill(
        self, out: Path, *trials: Mapping[str, Any], student: StudentConfig = STUDENT, **config: Any
    ) -> dict[str, Any]:
        """The whole stage; returns what it tells."""
        defaults: dict[str, Any] = {
            "choose_by": "recall",
            "teachers": ("good",),
            "batch_size": 48,
            "steps": 30,
            "validate_every": 15,
            "learning_rate": 5e-3,
        }
        settings = _settings({**defaults, "trials": [_trial(of) for of in trials], **config})
        distill(
            settings,
            student,
            QUESTIONS,
            JUDGING,
            fold=self.fold,
            data=self.root / "data",
            content=self.content,
            teach=self.root / "teach",
            mine=self.root / "mine",
            pretrain=None,
            out=out,
            seed=0,
            key="key",
            log=self._log,
        )
        told: dict[str, Any] = json.loads((out / "distill.json").read_text())
        return told

    def _log(self, curve: str) -> Callable[[Mapping[str, float], int], None]:
        points = self.curves.setdefault(curve, [])
        return lambda values, step: points.append((step, dict(values)))


def _settings(given: Mapping[str, Any]) -> DistillConfig:
    """Teachers that no trial reads are left out."""
    reads = given.get("rivals") or any(trial.distils and trial.teachers is None for trial in given["trials"])
    return DistillConfig.model_validate({name: of for name, of in given.items() if name != "teachers" or reads})


def _trial(given: Mapping[str, Any]) -> Trial:
    return Trial.model_validate(given)


@contextmanager
def step_of(training: Training, tmp_path: Path) -> Iterator[DistillStep]:
    """The training's own step, as its loop would take it."""
    held: list[DistillStep] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "fit", lambda step, **_: held.append(step))
    training.run(tmp_path / "c", "key", lambda *_: None)
    patch.undo()
    yield held[0]


def topic_recall(vectors: np.ndarray) -> float:
    """Share of the ten nearest other items that are of an item's topic."""
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1)[:, :10]
    return float((TOPIC[near] == TOPIC[:, None]).mean())


def _write_log(folder: Path, rng: np.random.Generator, *, new: int) -> None:
    rows = []
    for user in range(USERS):
        for window, events in enumerate((14, 6, 6)):
            weight = np.where(user % TOPICS == TOPIC, 15.0, 1.0)
            weight[ITEMS - new :] *= window > 0
            chosen = rng.choice(ITEMS, events, replace=False, p=weight / weight.sum())
            times = window * 1000 + rng.integers(0, 900, events)
            rows += [(f"u{user:02d}", IDS[item], at, ["like"]) for item, at in zip(chosen, times, strict=True)]
    frame = pd.DataFrame(rows, columns=[names.USER_ID, names.ITEM_ID, names.TIMESTAMP, names.BEHAVIOURS])
    windows = frame[names.TIMESTAMP] // 1000
    nothing = windows < 0
    for file, rows_of in (
        (layout.TRAIN, windows == 0),
        (layout.VALIDATION, windows == 1),
        (layout.TEST, windows == 2),
        (layout.VALIDATION_JUDGE, nothing),
        (layout.TEST_JUDGE, nothing),
    ):
        part = frame[rows_of]
        table = pa.table(
            {
                names.USER_ID: pa.array(part[names.USER_ID], pa.string()),
                names.ITEM_ID: pa.array(part[names.ITEM_ID], pa.string()),
                names.TIMESTAMP: pa.array(part[names.TIMESTAMP].to_numpy() * 1_000_000, pa.timestamp("us", "UTC")),
                names.BEHAVIOURS: pa.array(part[names.BEHAVIOURS].tolist(), pa.list_(pa.string())),
            }
        )
        write_table(table, folder / file)
    write_table(pd.DataFrame({names.ITEM_ID: IDS, names.ROLE: "warm"}), folder / layout.ITEMS)


def _write_pairs(fold: Fold, fit: Fit, path: Path) -> None:
    """Of every user's positives in order of time, each from the third on is a target of the four before it."""
    log = fold.training(fit)
    order = np.lexsort((log.time, log.user))
    users, queries, targets = [], [], []
    for user in range(len(log.user_ids)):
        mine = log.item[order[log.user[order] == user]]
        for place in range(2, len(mine)):
            users.append(log.user_ids[user])
            queries.append(IDS[mine[max(0, place - 4) : place]].tolist())
            targets.append(IDS[mine[place]])
    table = {
        names.USER_ID: pa.array(users, pa.string()),
        names.QUERY_ITEMS: pa.array(queries, pa.list_(pa.string())),
        names.TARGET_ITEM: pa.array(targets, pa.string()),
    }
    write_table(pa.table(table), path)
