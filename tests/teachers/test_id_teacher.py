"""The ID teacher: one step by hand, what it may touch, what it finds, and resuming."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize, softplus

from recdistill.teachers.build import build_id_teacher
from recdistill.teachers.config import IdTeacherConfig
from recdistill.teachers.positives import InMemory, Positives
from recdistill.training import fit

SMALL: dict[str, Any] = {"dim": 16, "batch": 32}


def tiny(behaviours: list[float], *, vocabulary: int) -> InMemory:
    """One user who liked items 0 … len(behaviours) - 1."""
    count = len(behaviours)
    support = torch.zeros(vocabulary, dtype=torch.int64)
    support[:count] = 1
    positives = Positives(
        item_ids=pd.Index([f"i{row}" for row in range(vocabulary)]),
        user_ids=pd.Index(["u"]),
        item=torch.arange(count),
        behaviours=torch.tensor(behaviours),
        time=torch.arange(count),
        starts=torch.tensor([0, count]),
        support=support,
    )
    return InMemory(positives, power=1.0)


@pytest.mark.parametrize("geometry", ["cosine", "dot"])
@pytest.mark.parametrize("logq", [1.0, 0.25])
def test_loss_of_a_step_by_hand(geometry: str, logq: float) -> None:
    """Three positives: one makes the user, two are targets, weighing 1 + 2·(b - 1); the other two items compete.

    With logQ strength below one, scores get a share of the items' log popularity, (1 + 1) / 8 or (0 + 1) / 8 here.
    """
    behaviours = [1.0, 2.0, 3.0]
    config = IdTeacherConfig(
        dim=4, geometry=geometry, batch=1, dropout=0, behaviour_weight=2, init_scale=1, temperature=0.5, logq=logq
    )
    teacher = build_id_teacher(config, tiny(behaviours, vocabulary=5), seed=0)
    rows = teacher.state["items"].state_dict()["id.weight"].clone()
    vectors = normalize(rows, dim=1) / 0.5**0.5 if geometry == "cosine" else rows
    prior = (1 - logq) * torch.tensor([2 / 8, 2 / 8, 2 / 8, 1 / 8, 1 / 8]).log()
    possible = []
    for query in range(3):
        scores = vectors @ vectors[query] + prior
        rest = torch.logsumexp(scores[3:], 0)
        losses = {item: float(softplus(rest - scores[item])) for item in range(3) if item != query}
        weights = {item: 1 + 2 * (behaviours[item] - 1) for item in losses}
        possible.append(sum(losses[item] * weights[item] for item in losses) / sum(weights.values()))
    loss = teacher.step(0)["loss"]
    assert min(abs(loss - by_hand) for by_hand in possible) < 1e-5


def test_bpr_step_by_hand() -> None:
    """Two positives, and one item that is neither: -log σ(target - that item), or 0 where an own item was drawn."""
    config = IdTeacherConfig(dim=4, geometry="dot", loss="bpr", batch=1, dropout=0, init_scale=1)
    teacher = build_id_teacher(config, tiny([1.0, 1.0], vocabulary=3), seed=0)
    rows = teacher.state["items"].state_dict()["id.weight"].clone()
    possible = [float(softplus(rows[query] @ (rows[2] - rows[1 - query]))) for query in range(2)]
    losses = [teacher.step(0)["loss"]]
    for step in range(1, 12):
        fresh = build_id_teacher(config, tiny([1.0, 1.0], vocabulary=3), seed=0)
        losses.append(fresh.step(step)["loss"])
    assert all(min(abs(loss - by_hand) for by_hand in [*possible, 0.0]) < 1e-5 for loss in losses)
    assert len({round(loss, 4) for loss in losses}) == 3  # all three happen


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"geometry": "dot"},
        {"full_softmax_up_to": 0, "negatives": 16},
        {"full_softmax_up_to": 0, "negatives": 16, "negatives_power": 0},
        {"loss": "bpr", "geometry": "dot"},
        {"user_form": "table"},
        {"user_form": "table", "full_softmax_up_to": 0, "negatives": 16, "l2": 0.01},
    ],
    ids=str,
)
def test_neighbours_of_the_planted_audiences_are_found(
    kind: Mapping[str, Any], planted: Positives, purity: Callable[[np.ndarray, pd.Index], float]
) -> None:
    teacher = build_id_teacher(IdTeacherConfig(**SMALL, **kind), InMemory(planted, power=1.0), seed=0)
    before = purity(teacher.vectors().numpy(), planted.item_ids)
    for step in range(150):
        teacher.step(step)
    assert before < 0.7
    assert purity(teacher.vectors().numpy(), planted.item_ids) > 0.97


def test_vectors_have_length_one_in_cosine_geometry_only(planted: Positives) -> None:
    for geometry, ones in (("cosine", True), ("dot", False)):
        teacher = build_id_teacher(IdTeacherConfig(dim=16, geometry=geometry), InMemory(planted, power=1.0), seed=0)
        lengths = teacher.vectors().norm(dim=1)
        assert bool(torch.allclose(lengths, torch.ones_like(lengths))) == ones


def test_a_sampled_step_touches_the_users_items_and_the_negatives_only(planted: Positives) -> None:
    config = IdTeacherConfig(dim=16, batch=1, full_softmax_up_to=0, negatives=3)
    teacher = build_id_teacher(config, InMemory(planted, power=1.0), seed=0)
    before = teacher.state["items"].state_dict()["id.weight"].clone()
    teacher.step(0)
    changed = (teacher.state["items"].state_dict()["id.weight"] != before).any(1)
    user = [set(rows.tolist()) for rows in planted.item.split(planted.counts.tolist())]
    touched = set(torch.nonzero(changed).squeeze(1).tolist())
    assert touched
    assert min(len(touched - own) for own in user) <= 3
    assert len(touched) <= 8 + 3


def test_a_step_depends_on_seed_and_number_alone(planted: Positives) -> None:
    def after(steps: list[int], seed: int = 0) -> torch.Tensor:
        teacher = build_id_teacher(IdTeacherConfig(**SMALL, dropout=0), InMemory(planted, power=1.0), seed=seed)
        for step in steps:
            teacher.step(step)
        return teacher.vectors()

    assert torch.equal(after([3, 4]), after([3, 4]))
    assert not torch.equal(after([3, 4]), after([3, 5]))
    assert not torch.equal(after([3, 4]), after([3, 4], seed=1))


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", [{}, {"user_form": "table", "full_softmax_up_to": 0, "negatives": 8}], ids=str)
@pytest.mark.parametrize("at", [1, 7, 18])
def test_resumed_equals_uninterrupted(kind: Mapping[str, Any], at: int, planted: Positives, tmp_path: Path) -> None:
    def train(checkpoint: Path, *, die_at: int | None) -> dict[str, Any]:
        teacher = build_id_teacher(IdTeacherConfig(**SMALL, **kind), InMemory(planted, power=1.0), seed=5)

        def log(_: Mapping[str, float], step: int) -> None:
            if step == die_at:
                raise Killed

        fit(
            teacher.step, steps=20, seed=5, state=teacher.state, checkpoint=checkpoint, key="k", description="test",
            log=log, checkpoint_seconds=0, log_every=1,
        )  # fmt: skip
        return {name: part.state_dict() for name, part in teacher.state.items()}

    whole = train(tmp_path / "whole", die_at=None)
    with pytest.raises(Killed):
        train(tmp_path / "killed", die_at=at)
    assert (tmp_path / "killed").exists()
    resumed = train(tmp_path / "killed", die_at=None)
    for name, state in whole.items():
        for key, values in state.items():
            assert torch.equal(resumed[name][key], values), (name, key)
