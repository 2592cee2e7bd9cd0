"""Distillation with tuned towers: killed and resumed it ends with the same weights, and the next batch is prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny_world import World
from torch import Tensor

from recdistill.contracts.log import Log
from recdistill.contracts.tables import write_table
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.heads import MeanHead
from recdistill.distill.negatives import NegativeMiner
from recdistill.distill.pairs import InterestPairs
from recdistill.distill.step import DistillStep
from recdistill.distill.terms import Given, build_terms
from recdistill.distill.weighting import make_weighting
from recdistill.students import FeatureSource, StudentConfig, build_student, feature_source
from recdistill.students.tuning import TrainedState, parameter_groups
from recdistill.training import fit

CONFIG = DistillConfig(batch_size=8, steps=6, learning_rate=0.01)


class Killed(Exception):
    pass


def interests(folder: Path, ids: list[str]) -> tuple[Log, InterestPairs]:
    """Every user likes items of one parity."""
    rng = np.random.default_rng(0)
    users, item = np.repeat(np.arange(8), 6), rng.integers(0, 12, 48) * 2
    item += users % 2
    log = Log(
        pd.Index([f"u{user}" for user in range(8)]),
        pd.Index(ids),
        users.astype(np.int32),
        item.astype(np.int32),
        np.arange(48),
        np.ones(48, np.int32),
        ("like",),
        np.full(48, np.nan, np.float32),
    )
    liked = [[ids[one] for one in item[users == user]] for user in range(8)]
    table = {
        "user_id": pa.array([f"u{user}" for user in range(8)]),
        "query_item_ids": pa.array([mine[:-1] for mine in liked], pa.list_(pa.string())),
        "target_item_id": pa.array([mine[-1] for mine in liked]),
    }
    write_table(pa.table(table), folder / "pairs.parquet")
    return log, InterestPairs(folder / "pairs.parquet", log, history_power=0)


def nobody(name: str) -> Any:
    raise AssertionError(f"no objective here reads the teacher {name}")


class Training:
    """Everything built from the seed."""

    def __init__(self, world: World, given: tuple[Log, InterestPairs], how: str, *, kill_at: int | None = None) -> None:
        log, pairs = given
        tuning = {"text": how, "image": how}
        config = StudentConfig.model_validate({"dim": 8, "prefixes": (4,), "tuning": tuning, "lora_rank": 2})
        self.student = build_student(config, content=world.content, seed=0)
        self.source: FeatureSource = feature_source(
            config, content=world.content, data=world.data, item_ids=pd.Index(world.ids)
        )
        groups = parameter_groups(self.student, self.student.tuned, learning_rate=0.01, share=0.1)
        self.optimizer = torch.optim.AdamW(groups)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=[0.01, 0.001], total_steps=7)
        self.kill_at = kill_at
        trial = Trial.model_validate({"weights": {"relational": 0, "item_to_item": 0.1}})
        self.step = DistillStep(
            student=self.student,
            head=MeanHead(),
            terms=build_terms(
                Given(CONFIG, trial, log, pairs, self.student.prefixes, target=nobody, scorer=nobody, table=nobody)
            ),
            weighting=make_weighting(trial),
            negatives=NegativeMiner(trial.hard_negatives, pairs, seed=5),
            features=self.source,
            pairs=pairs,
            trial=trial,
            config=CONFIG,
            optimizer=self.optimizer,
            schedule=self.schedule,
            seed=5,
        )

    def run(self, checkpoint: Path) -> dict[str, Tensor]:
        def step(number: int) -> Any:
            if number == self.kill_at:
                raise Killed
            return self.step(number)

        fit(
            step,
            steps=CONFIG.steps,
            seed=5,
            state={
                "student": TrainedState(self.student),
                "optimizer": self.optimizer,
                "schedule": self.schedule,
            },
            checkpoint=checkpoint,
            key="k",
            description="toy",
            log=lambda metrics, step: None,
            checkpoint_seconds=0,
        )
        return self.student.state_dict()


@pytest.mark.parametrize("how", ["lora", "full"])
def test_killed_and_resumed_equals_uninterrupted(catalogue: World, tmp_path: Path, how: str) -> None:
    pairs = interests(tmp_path, catalogue.ids)
    whole = Training(catalogue, pairs, how).run(tmp_path / "a")
    with pytest.raises(Killed):
        Training(catalogue, pairs, how, kill_at=3).run(tmp_path / "b")
    files = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert files
    resumed = Training(catalogue, pairs, how).run(tmp_path / "b")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    fresh = Training(catalogue, pairs, how).student.state_dict()
    assert any(name.startswith("tuned.") and not torch.equal(value, fresh[name]) for name, value in whole.items())


def test_a_step_prepares_what_the_next_one_asks(
    catalogue: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(catalogue, interests(tmp_path, catalogue.ids), "lora")
    asked: list[tuple[str, list[int]]] = []
    for name in ("prefetch", "batch"):
        call: Callable[..., Any] = getattr(type(training.source), name)

        def noting(source: FeatureSource, rows: Tensor, name: str = name, call: Callable[..., Any] = call) -> Any:
            asked.append((name, rows.tolist()))
            return call(source, rows)

        monkeypatch.setattr(type(training.source), name, noting)
    for step in range(3):
        training.step(step)
    assert [name for name, _ in asked] == ["batch", "prefetch"] * 3
    assert [rows for name, rows in asked[1:-1] if name == "prefetch"] == [
        rows for name, rows in asked[1:] if name == "batch"
    ]
