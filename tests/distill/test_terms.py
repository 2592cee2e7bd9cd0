"""Each objective as a term of a step: what it reads, what it moves, what it draws."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from topical_world import ITEMS, TOPIC, TopicalWorld, step_of, topic_recall
from torch import Tensor

from recdistill.distill.config import OF_TEACHERS, Rival, Trial, Weights
from recdistill.distill.teachers import Target
from recdistill.distill.terms import TERMS
from recdistill.distill.terms.ranking import neighbours


def only(name: str, value: float = 1.0) -> dict[str, float]:
    return dict.fromkeys(Weights.model_fields, 0.0) | {name: value}


def trial(name: str, **more: Any) -> dict[str, Any]:
    return {"weights": only(name), "soft_targets": {"teacher": "dotted"}, **more}


def test_every_weight_has_its_term_and_every_term_its_weight():
    assert set(TERMS) == set(Weights.model_fields)
    assert set(OF_TEACHERS) < set(TERMS)


@pytest.mark.parametrize("name", [name for name in TERMS if name not in get_args(Rival)])
def test_a_term_is_finite_and_moves_the_student(world: TopicalWorld, tmp_path, name):
    more = {
        "hard_negatives": {"count": 2 * (name in ("sequence_to_item", "soft_targets"))},
        "catalogue_items": 8 * (name in OF_TEACHERS and name != "ranking"),
    }
    training = world.training(trial(name, **more), steps=10)
    before = [weight.detach().clone() for weight in training.student.parameters()]
    with step_of(training, tmp_path) as step:
        told = step(0)
    assert np.isfinite(list(told.values())).all() and told[name] > 0 and told["gradient_norm"] > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, training.student.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"simulated_cold": 0.5, "log_q": 0}, "simulated_cold"),
        ({"hard_negatives": {"count": 1}, "weights": only("relational")}, "hard_negatives"),
        ({"catalogue_items": 8, "weights": only("sequence_to_item")}, "catalogue_items"),
        ({"ranking": {"catalogue_anchors": 8}, "weights": only("relational")}, "catalogue_anchors"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        Trial.model_validate(given)


@pytest.mark.parametrize("name", [name for name in TERMS if name in (*OF_TEACHERS, "soft_targets")])
def test_a_good_teacher_alone_shows_the_topics(world: TopicalWorld, tmp_path, name):
    training = world.training(trial(name), steps=40, learning_rate=5e-3)
    before = topic_recall(training.vectors())
    with step_of(training, tmp_path) as step:
        for at in range(40):
            step(at)
    assert topic_recall(training.vectors()) > before + 0.1


@pytest.mark.parametrize("name", ["relational", "alignment", "topology", "ordering", "ranking"])
def test_items_without_weight_teach_nothing(world: TopicalWorld, tmp_path, name):
    training = world.training(trial(name), steps=10)
    term = training.terms[name]
    for target in getattr(term, "teachers", None) or term._targets:
        target.confidence.zero_()
    with step_of(training, tmp_path) as step:
        told = step(0)
    assert told[name] == 0 and told["gradient_norm"] == 0


def test_confidence_and_popularity_weigh_to_their_powers(world: TopicalWorld):
    plain, powered = (
        world.training(trial("relational", **more)).terms["relational"].teachers[0].confidence
        for more in ({}, {"confidence_power": 0.5, "popularity_power": -1.0})
    )
    log = world.fold.training("selection")
    counts = torch.from_numpy(np.bincount(log.item, minlength=ITEMS) + 1).float()
    assert torch.allclose(powered, plain.sqrt() / counts * counts.mean(), rtol=1e-5)
    alike = world.training(trial("relational", confidence_power=0.0)).terms["relational"].teachers[0].confidence
    assert torch.equal(alike, (plain > 0).float())  # what the teacher does not know stays unknown


def test_a_trial_s_own_teachers_come_before_the_stage_s(world: TopicalWorld):
    def names(**more: Any) -> list[str]:
        return [target.name for target in world.training(trial("topology", **more)).terms["topology"].teachers]

    assert names() == ["good"] and names(teachers=("dotted", "noise")) == ["dotted", "noise"]


def test_catalogue_items_are_taught_beside_the_targets(world: TopicalWorld, tmp_path):
    with step_of(world.training(trial("topology", catalogue_items=40)), tmp_path) as step:
        batch = step._encode(0)
    targets = set(batch.pairs.target.tolist())
    taught = set(batch.rows[batch.taught].tolist())
    assert taught == targets | set(batch.draw.catalogue.tolist()) and len(taught) > len(targets)
    assert set(batch.rows[batch.asked].tolist()) == targets


@pytest.mark.parametrize("name", [name for name in TERMS if name not in get_args(Rival)])
def test_all_that_moves_the_student_passes_the_outputs_that_weighting_sees(world: TopicalWorld, tmp_path, name):
    # The pull at the outputs, carried on through the student, is the whole gradient of its weights.
    training = world.training(trial(name))
    with step_of(training, tmp_path) as step:
        batch = step._encode(0)
        value = step.terms[name](batch)
    weights = list(training.student.parameters())
    at = torch.autograd.grad(value, batch.outputs, retain_graph=True, allow_unused=True)
    reached = [(of, pull) for of, pull in zip(batch.outputs, at, strict=True) if pull is not None]
    through = torch.autograd.grad([of for of, _ in reached], weights, [pull for _, pull in reached], retain_graph=True)
    for direct, carried in zip(torch.autograd.grad(value, weights), through, strict=True):
        torch.testing.assert_close(carried, direct, rtol=1e-4, atol=1e-7)


def test_items_that_count_as_never_met_have_the_even_chance(world: TopicalWorld, tmp_path):
    def chances(share: float) -> Tensor:
        torch.manual_seed(0)
        return world.training(trial("sequence_to_item", simulated_cold=share)).terms["sequence_to_item"]._chances()

    own, even = chances(0.0), -np.log(ITEMS)
    assert torch.equal(chances(1.0), torch.full((ITEMS,), even))
    some = chances(0.5)
    unseen = some == torch.tensor(even).float()
    assert 0.3 < unseen.float().mean() < 0.7 and torch.equal(some[~unseen], own[~unseen])


def test_with_all_items_never_met_nothing_is_corrected(world: TopicalWorld, tmp_path):
    # One number taken from all logits of a query changes nothing.
    values = {}
    for name, more in (("all", {"simulated_cold": 1.0}), ("none", {"log_q": 0.0}), ("corrected", {})):
        with step_of(world.training(trial("sequence_to_item", **more)), tmp_path) as step:
            torch.manual_seed(0)
            values[name] = step(0)["sequence_to_item"]
    assert values["all"] == pytest.approx(values["none"], rel=1e-6)
    assert abs(values["corrected"] - values["none"]) > 1e-3


def test_lists_of_neighbours_are_the_nearest_known_items():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(12, 4), dim=1)
    confidence = torch.ones(12)
    confidence[[3, 7]] = 0
    found = neighbours(Target("t", vectors, confidence), depth=4)
    cosine = (vectors @ vectors.T).fill_diagonal_(-2)
    cosine[:, [3, 7]] = -2
    expected = cosine.topk(4, dim=1).indices
    known = confidence > 0
    assert torch.equal(found[known].long(), expected[known]) and (found[~known] == -1).all()


def test_ranking_draws_near_items_more_often_and_only_unlisted_ones_as_uninteresting(world: TopicalWorld, tmp_path):
    options = {"anchors": 300, "depth": 10, "drawn": 3, "decay": 2.0, "uninteresting": 30}
    training = world.training(trial("ranking", ranking=options))
    with step_of(training, tmp_path) as step:
        draw = step._draw(0)
    anchor, drawn, _ = draw.more["ranking"][0].split((300, 900, 30))
    lists = training.terms["ranking"]._lists[0]
    place = (lists[anchor][:, None, :] == drawn.view(300, 3)[:, :, None]).float().argmax(dim=2)
    assert (place.diff(dim=1) > 0).all()  # in the teacher's order, none twice
    share = np.bincount(place.flatten().numpy(), minlength=10) / 300
    assert share[0] > 0.7 > 0.2 > share[9]


def test_soft_targets_rank_by_the_mean_of_the_query_s_known_items(world: TopicalWorld):
    scorer = world.training(trial("soft_targets")).terms["soft_targets"]._scorer
    query = torch.tensor([[1, 2, -1], [0, 11, -1], [0, 3, -1]])  # 0 and 11 the teacher does not know
    scores, share = scorer.scores(query, torch.arange(ITEMS))
    mean = (scorer.vectors[1] + scorer.vectors[2]) / 2
    assert torch.allclose(scores[0], scorer.vectors @ mean, atol=1e-5)
    assert share.tolist() == [1.0, 0.0, 0.5] and not scores[1].any()
    assert torch.allclose(scores[2], scorer.vectors @ scorer.vectors[3], atol=1e-5)


def test_alignment_of_a_student_that_is_the_teacher_can_be_perfect(world: TopicalWorld):
    # Its prefix, turned onto the teacher's axes by the projection: cut and scaled alike, nothing is left.
    term = world.training(trial("alignment")).terms["alignment"]
    target = term.teachers[0]
    known = target.confidence > 0
    student = torch.nn.functional.pad(target.vectors[known], (0, 12))
    projection = term.projections[0][-1]
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.zero_()
        projection.weight[:, :4] = term._axes[0].T
    weight = target.confidence[known]
    loss: Tensor = term.compare(student, target.vectors[known], weight, which=0, prefix=1)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_cut_to_a_prefix_keeps_its_leading_axes(world: TopicalWorld):
    term = world.training(trial("alignment")).terms["alignment"]
    target = term.teachers[0]
    turned = target.vectors @ term._axes[0]
    spread = (turned.square() * target.confidence[:, None]).sum(dim=0)
    assert (spread.diff() <= 1e-4).all() and torch.allclose(term._axes[0].T @ term._axes[0], torch.eye(4), atol=1e-5)
    assert TOPIC.max() == 3
