"""Rules of loss weights, and the objectives of a step in phases."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from recdistill.distill.config import Trial, Weights
from recdistill.distill.curriculum import Curriculum
from recdistill.distill.weighting import GradientNorm, Uncertainty, Weighting, make_weighting

WEIGHTS = Weights.only(sequence_to_item=1.0, relational=0.5)


def parts(vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"sequence_to_item": 3 * vectors.sum(), "relational": 0.1 * vectors.sum()}


def test_fixed_weights_are_a_weighted_sum():
    vectors = torch.ones(2, 2, requires_grad=True)
    assert Weighting(WEIGHTS)(parts(vectors), [vectors]).item() == pytest.approx(12 + 0.5 * 0.4)


def test_gradient_norm_makes_the_weights_shares_of_the_pull():
    vectors = torch.ones(2, 2, requires_grad=True)
    rule = GradientNorm(WEIGHTS)
    loss = rule(parts(vectors), [vectors])
    # Gradients of 3 and of 0.1 everywhere: the second is multiplied by 30, and then weighs its half.
    assert loss.item() == pytest.approx(12 + 0.5 * 30 * 0.4, rel=1e-5)
    (pull,) = torch.autograd.grad(loss, vectors)
    assert torch.allclose(pull, torch.full((2, 2), 3 + 0.5 * 3))
    assert rule.told() == pytest.approx({"scale_sequence_to_item": 1.0, "scale_relational": 30.0}, rel=1e-5)
    again = GradientNorm(WEIGHTS)
    again.load_state_dict(rule.state_dict())
    assert torch.equal(again.norm, rule.norm)
    rule({"relational": parts(vectors)["relational"]}, [vectors])
    assert rule.told() == {"scale_relational": 1.0}  # a phase of one objective: it is the first


def test_gradient_norm_sees_the_pull_at_everything_that_the_student_gave():
    vectors, again = torch.ones(2, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    both = {"sequence_to_item": 3 * vectors.sum(), "relational": 2 * vectors[0].sum() + 4 * again.sum()}
    rule = GradientNorm(WEIGHTS)
    rule(both, [vectors, again])
    # Norms: √(4 · 3²) = 6 and √(2 · 2² + 2 · 4²) = √40.
    assert rule.told()["scale_relational"] == pytest.approx(6 / 40**0.5, rel=1e-5)


def test_gradient_norm_leaves_an_objective_without_a_gradient_and_bounds_the_rest():
    vectors = torch.ones(2, requires_grad=True)
    rule = GradientNorm(WEIGHTS, most=5.0)
    still = {"sequence_to_item": vectors.sum(), "relational": vectors.sum() * 0.0}
    assert math.isfinite(rule(still, [vectors]).item()) and rule.told()["scale_relational"] == 1.0
    bounded = GradientNorm(WEIGHTS, most=5.0)
    bounded(parts(vectors), [vectors])
    assert bounded.told()["scale_relational"] == 5.0


def test_uncertainty_finds_the_variance_that_an_objective_has():
    # Σ w (L e^−s + s / 2) is least at e^−s = 1 / 2L.
    vectors = torch.ones(2, requires_grad=True)
    rule = Uncertainty(WEIGHTS)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.1)
    values = {"sequence_to_item": vectors.sum() * 2, "relational": vectors.sum() * 0.1}
    for _ in range(200):
        optimizer.zero_grad()
        rule(values, [vectors]).backward(retain_graph=True)
        optimizer.step()
    assert rule.told() == pytest.approx({"scale_sequence_to_item": 1 / 8, "scale_relational": 1 / 0.4}, rel=1e-2)


def test_uncertainty_begins_at_the_weights_as_they_stand_and_stays_bounded():
    vectors = torch.ones(2, 2, requires_grad=True)
    rule = Uncertainty(WEIGHTS)
    assert rule(parts(vectors), [vectors]).item() == pytest.approx(Weighting(WEIGHTS)(parts(vectors), [vectors]).item())
    with torch.no_grad():
        rule.log_variance.fill_(-100)
    assert rule.told()["scale_relational"] == pytest.approx(math.exp(4))


def test_a_trial_names_its_rule():
    assert type(make_weighting(Trial(weighting="gradient_norm"))) is GradientNorm
    assert type(make_weighting(Trial())) is Weighting


def test_phases_follow_their_shares_and_the_last_takes_the_rest():
    trial = Trial.model_validate(
        {
            "phases": [
                {"share": 0.25, "objectives": ["item_to_item"]},
                {"share": 0.5, "objectives": ["sequence_to_item", "item_to_item", "topology"]},
                {"share": 0.1, "objectives": ["sequence_to_item", "relational"]},
            ]
        }
    )
    names = ("sequence_to_item", "relational", "item_to_item")  # those with weight, in their order
    course = Curriculum(trial, names, steps=40)
    first, second, third = ("item_to_item",), ("sequence_to_item", "item_to_item"), ("sequence_to_item", "relational")
    assert [course.at(step) for step in (0, 9, 10, 29, 30, 39, 400)] == [first] * 2 + [second] * 2 + [third] * 3
    assert Curriculum(Trial(), names, steps=40).at(0) == names


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"share": 0.5, "objectives": ["relatonal"]}], "no objective relatonal"),
        ([{"share": 0.5, "objectives": ["topology"]}], "all objectives of a phase have weight 0"),
        ([{"share": 1, "objectives": ["relational"]}, {"share": 0.1, "objectives": ["relational"]}], "leave nothing"),
    ],
)
def test_phases_that_cannot_be_are_refused(phases, message):
    with pytest.raises(ValidationError, match=message):
        Trial.model_validate({"phases": phases})
