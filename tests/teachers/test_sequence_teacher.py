"""The sequence teacher: causality, windows, one loss by hand, the planted order, and resuming."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.teachers.build import build_sequence_teacher
from recdistill.teachers.config import SequenceTeacherConfig
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.transformer import CausalTransformer, running_mean
from recdistill.training import fit

SMALL: dict[str, Any] = {"dim": 16, "batch": 32, "length": 10, "dropout": 0.1, "dense_learning_rate": 3e-3}


def following_of(positives: Positives) -> Tensor:
    """[V] the next item on each planted circle (-1 for an item on none)."""
    ids = positives.item_ids
    following = [f"{item[0]}{(int(item[1:]) + 1) % 20:02d}" if item != "x" else "" for item in ids]
    return torch.from_numpy(ids.get_indexer(following).copy())


def test_a_later_item_changes_no_earlier_state() -> None:
    torch.manual_seed(0)
    model = CausalTransformer(dim=8, length=6, layers=2, heads=2, dropout=0.5).eval()
    first = torch.randn(2, 6, 8)
    second = first.clone()
    second[:, 4:] = torch.randn(2, 2, 8)
    with torch.no_grad():
        before, after = model(first), model(second)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4] != after[:, 4]).all()


def test_an_earlier_item_and_its_place_change_later_states() -> None:
    torch.manual_seed(0)
    model = CausalTransformer(dim=8, length=6, layers=1, heads=2, dropout=0.0).eval()
    x = torch.randn(1, 6, 8)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    with torch.no_grad():
        assert (model(x)[:, 5] - model(swapped)[:, 5]).abs().max() > 1e-4


def test_running_mean_by_hand() -> None:
    x = torch.tensor([[[1.0], [3.0], [8.0]]])
    assert running_mean(x).squeeze().tolist() == [1, 2, 4]


def test_pooled_loss_of_one_pair_by_hand() -> None:
    """One user, items 0 then 1: the mean so far is item 0, and every item competes."""
    positives = Positives(
        item_ids=pd.Index(["a", "b", "c", "d"]),
        user_ids=pd.Index(["u"]),
        item=torch.tensor([0, 1]),
        behaviours=torch.ones(2),
        time=torch.tensor([5, 7]),
        starts=torch.tensor([0, 2]),
        support=torch.tensor([1, 1, 0, 0]),
    )
    teacher = build_sequence_teacher(
        SequenceTeacherConfig(dim=4, batch=3, temperature=0.5, init_scale=1), InMemory(positives, power=0.5), seed=0
    )
    vectors = normalize(teacher.state["items"].state_dict()["weight"].clone(), dim=1)
    expected = -torch.log_softmax(vectors @ vectors[0] / 0.5, 0)[1]
    losses = teacher.step(0)
    assert losses["pooled_loss"] == pytest.approx(float(expected), abs=1e-5)
    assert losses["loss"] == pytest.approx(losses["state_loss"] + 0.5 * losses["pooled_loss"], abs=1e-5)


@pytest.mark.parametrize("length", [3, 7, 30])
def test_batches_are_windows_of_consecutive_positives(length: int, planted: Positives) -> None:
    config = SequenceTeacherConfig(**{**SMALL, "length": length, "batch": 200})
    teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=0)
    batch = teacher._draw(0, torch.Generator().manual_seed(0))
    following = following_of(planted)
    real = batch.real
    assert torch.equal(following[batch.seen[real]], batch.following[real])
    assert (real.sum(1) == min(length, 7)).all()
    starts = batch.seen[:, 0]
    places = {int(place) for rows in planted.item.split(8) for place in rows[: 8 - min(length, 7)]}
    assert {int(start) for start in starts} <= places
    if length == 3:  # not only the users' first items
        assert not {int(start) for start in starts} <= {int(rows[0]) for rows in planted.item.split(8)[:10]}


def next_hits(teacher: SequenceTeacher, positives: Positives) -> float:
    """Share of users whose best-scored item is the next on their circle."""
    rows = torch.stack(positives.item.split(8))[:, -5:]
    scores = teacher.user_states(rows) @ teacher.vectors().T
    return float((scores.scatter(1, rows, -torch.inf).argmax(1) == following_of(positives)[rows[:, -1]]).float().mean())


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"full_softmax_up_to": 0, "negatives": 16},
        {"geometry": "dot", "pooled_weight": 0},
        {
            "full_softmax_up_to": 0,
            "negatives": 16,
            "loss": "gbce",
            "geometry": "dot",
            "pooled_weight": 0,
            "dropout": 0.0,
            "init_scale": 0.2,
        },
    ],
    ids=str,
)
def test_the_planted_order_is_learned(kind: Mapping[str, Any], planted: Positives) -> None:
    teacher = build_sequence_teacher(SequenceTeacherConfig(**{**SMALL, **kind}), InMemory(planted, power=0.5), seed=0)
    before = next_hits(teacher, planted)
    for step in range(200):
        torch.manual_seed(step)
        teacher.step(step)
    assert before < 0.3
    assert next_hits(teacher, planted) > 0.9


def test_the_table_finds_the_planted_audiences_by_itself(
    planted: Positives, purity: Callable[[np.ndarray, pd.Index], float]
) -> None:
    teacher = build_sequence_teacher(SequenceTeacherConfig(**SMALL), InMemory(planted, power=0.5), seed=0)
    for step in range(120):
        torch.manual_seed(step)
        teacher.step(step)
    assert purity(teacher.vectors().numpy(), planted.item_ids) > 0.97


def test_states_depend_neither_on_padding_nor_on_the_batch(planted: Positives) -> None:
    teacher = build_sequence_teacher(SequenceTeacherConfig(**SMALL), InMemory(planted, power=0.5), seed=0)
    rows = torch.tensor([[3, 1, 4, -1, -1], [5, -1, -1, -1, -1], [-1, -1, -1, -1, -1], [2, 0, 6, 7, 8]])
    together = teacher.user_states(rows)
    for row, length in zip(range(4), (3, 1, 1, 5), strict=True):
        alone = teacher.user_states(rows[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)
    assert together[2].abs().max() == 0
    torch.testing.assert_close(teacher.user_states(rows, block=1), together, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [{}, {"full_softmax_up_to": 0, "negatives": 64}], ids=str)
def test_threads_change_nothing_from_run_to_run(kind: Mapping[str, Any], planted: Positives) -> None:
    """Sums over repeated items must not depend on which thread comes first."""

    def train() -> Tensor:
        config = SequenceTeacherConfig(dim=64, batch=256, length=10, layers=1, **kind)
        teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=0)
        for step in range(3):
            torch.manual_seed(step)
            teacher.step(step)
        return teacher.vectors()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = train()
        assert all(torch.equal(train(), first) for _ in range(2))
    finally:
        torch.set_num_threads(threads)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [2, 11])
def test_resumed_equals_uninterrupted_with_validation(at: int, planted: Positives, tmp_path: Path) -> None:
    def train(checkpoint: Path, *, die_at: int | None) -> dict[str, Any]:
        config = SequenceTeacherConfig(**SMALL, full_softmax_up_to=0, negatives=8)
        teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=5)

        def log(_: Mapping[str, float], step: int) -> None:
            if step == die_at:
                raise Killed

        fit(
            teacher.step, steps=15, seed=5, state=teacher.state, checkpoint=checkpoint, key="k", description="test",
            log=log, checkpoint_seconds=0, log_every=1, validate=lambda: next_hits(teacher, planted), validate_every=4,
        )  # fmt: skip
        return {"items": teacher.state["items"].state_dict(), "model": teacher.state["model"].state_dict()}

    whole = train(tmp_path / "whole.pt", die_at=None)
    with pytest.raises(Killed):
        train(tmp_path / "killed.pt", die_at=at)
    resumed = train(tmp_path / "killed.pt", die_at=None)
    for name, state in whole.items():
        for key, values in state.items():
            assert torch.equal(resumed[name][key], values), (name, key)
