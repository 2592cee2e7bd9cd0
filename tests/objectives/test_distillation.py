"""Objectives of distillation: golden values by hand, minima, gradients and empty masks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.objectives.alignment import regression
from recdistill.objectives.listwise import listwise, standardised
from recdistill.objectives.ranking import relaxed_ranking
from recdistill.objectives.topology import topology

ALL = torch.ones(1, 3, dtype=torch.bool)


def kl(target: list[float], found: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(target, found, strict=True))


def test_listwise_by_hand():
    # Scores log 1, 2, 5 at temperature 1: shares 1/8, 2/8, 5/8; the student's at temperature 1/2 are squared.
    scores = torch.tensor([[1.0, 2.0, 5.0]]).log()
    loss = listwise(scores, scores, valid=ALL, weight=torch.ones(1), temperature=0.5, teacher_temperature=1.0)
    assert loss.item() == pytest.approx(kl([1 / 8, 2 / 8, 5 / 8], [1 / 30, 4 / 30, 25 / 30]), rel=1e-5)


def test_listwise_leaves_out_what_is_not_valid_whatever_stands_there():
    student = torch.tensor([[0.3, 0.1, float("inf")], [0.1, 0.2, 0.3]], requires_grad=True)
    teacher = torch.tensor([[0.5, 0.2, float("nan")], [0.4, 0.4, 0.4]])
    valid = torch.tensor([[True, True, False], [True, False, False]])  # the second has one candidate: no ranking
    loss = listwise(
        student, teacher, valid=valid, weight=torch.tensor([2.0, 9.0]), temperature=1, teacher_temperature=1
    )
    high, low = 1 / (1 + math.exp(-0.3)), 1 / (1 + math.exp(-0.2))
    assert loss.item() == pytest.approx(kl([high, 1 - high], [low, 1 - low]), rel=1e-4)
    loss.backward()
    assert torch.isfinite(student.grad).all() and not student.grad[1].any() and student.grad[0, 2] == 0


def test_listwise_weighs_queries_and_is_zero_without_any():
    student = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    both = torch.ones(2, 2, dtype=torch.bool)
    of = {"valid": both, "temperature": 1.0, "teacher_temperature": 1.0}
    one = listwise(student[:1], teacher[:1], weight=torch.ones(1), **(of | {"valid": both[:1]}))
    assert listwise(student, teacher, weight=torch.tensor([1.0, 3.0]), **of).item() == pytest.approx(one.item() / 4)
    nothing = listwise(student, teacher, weight=torch.zeros(2), **of)
    nothing.backward()
    assert nothing.item() == 0 and not student.grad.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 3.0), st.floats(-1e3, 1e3))
def test_listwise_is_least_at_the_teacher_and_never_reaches_it(seed, temperature, shift):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(3, 7, generator=generator, requires_grad=True)
    valid = torch.rand(3, 7, generator=generator) < 0.7
    of = {"valid": valid, "weight": torch.ones(3), "temperature": temperature, "teacher_temperature": temperature}
    student = (teacher.detach() + shift).requires_grad_()
    loss = listwise(student, teacher, **of)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=2e-3) and student.grad.abs().max() < 2e-3
    assert teacher.grad is None
    assert listwise(torch.randn(3, 7, generator=generator), teacher, **of).item() >= -1e-6


def test_standardised_by_hand_and_where_all_are_alike():
    scores = torch.tensor([[1.0, 3.0, 99.0], [0.1, 0.1, 0.1], [5.0, 5.0, 5.0]])
    valid = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    assert standardised(scores, valid).tolist() == [[-1.0, 1.0, 0.0], [0.0] * 3, [0.0] * 3]


def test_topology_by_hand_and_gradient_only_to_the_student():
    # Cosines of the pairs 01, 02, 12: teacher 0, 1, 0; student 1, 0, 0.
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    assert topology(student, teacher, weight=torch.ones(3)).item() == pytest.approx(2 / 3)
    # Pairs weigh 2, 1 and 2 then: (2·1 + 1·1 + 2·0) / 5.
    loss = topology(student, teacher, weight=torch.tensor([1.0, 2.0, 1.0]))
    assert loss.item() == pytest.approx(3 / 5)
    loss.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_topology_is_least_at_the_teacher_turned_and_scaled_and_zero_without_pairs():
    torch.manual_seed(0)
    teacher = torch.randn(6, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    student = (teacher @ turn * torch.rand(6, 1).add(0.5)).requires_grad_()
    loss = topology(student, teacher, weight=torch.rand(6))
    loss.backward()
    assert loss.item() < 1e-10 and student.grad.abs().max() < 1e-5
    alone = torch.randn(6, 4, requires_grad=True)
    topology(alone, teacher, weight=torch.tensor([1.0, 0, 0, 0, 0, 0])).backward()
    assert not alone.grad.any()


def test_regression_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    assert regression(student, teacher, weight=torch.tensor([1.0, 3.0])).item() == pytest.approx(0.75)
    regression(student, teacher, weight=torch.tensor([1.0, 0.0])).backward()
    assert not student.grad.any() and teacher.grad is None
    assert regression(student, teacher, weight=torch.zeros(2)).item() == 0


def likelihood(scores: list[float], others: list[float]) -> float:
    rest, product = list(scores), 1.0
    while rest:
        product *= rest[0] / (sum(rest) + sum(others))
        rest = rest[1:]
    return product


def test_relaxed_ranking_by_hand():
    # e^score 4 and 2 on the list, 1 and 3 off it: 4/10 · 2/6.
    near, off = torch.tensor([[4.0, 2.0]]).log(), torch.tensor([[1.0, 3.0]]).log()
    both = torch.ones(1, 2, dtype=torch.bool)
    of = {"valid_uninteresting": both, "weight": torch.ones(1), "temperature": 1.0}
    loss = relaxed_ranking(near, off, valid=both, **of)
    assert loss.item() == pytest.approx(-math.log(4 / 10 * 2 / 6) / 2, rel=1e-5)
    first = relaxed_ranking(near, off, valid=torch.tensor([[True, False]]), **of)
    assert first.item() == pytest.approx(-math.log(4 / 8), rel=1e-5)
    none_off = relaxed_ranking(near, off, valid=both, **(of | {"valid_uninteresting": ~both}))
    assert none_off.item() == pytest.approx(-math.log(4 / 6) / 2, rel=1e-5)


def test_relaxed_ranking_asks_for_the_list_s_order_and_for_no_other():
    scores = [5.0, 3.0, 1.0]
    order = {
        ranking: -math.log(likelihood([scores[at] for at in ranking], [1.0, 2.0]))
        for ranking in itertools.permutations(range(3))
    }
    valid = torch.ones(1, 3, dtype=torch.bool)
    for off in (torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])):
        found = {
            ranking: relaxed_ranking(
                torch.tensor([[scores[at] for at in ranking]]).log(),
                off.log(),
                valid=valid,
                valid_uninteresting=valid[:, :2],
                weight=torch.ones(1),
                temperature=1.0,
            ).item()
            for ranking in order
        }
        assert {ranking: 3 * value for ranking, value in found.items()} == pytest.approx(order, rel=1e-4)
    assert min(order, key=order.__getitem__) == (0, 1, 2)


def test_relaxed_ranking_without_a_list_has_a_zero_gradient_and_reads_nothing_invalid():
    near = torch.tensor([[float("nan"), 0.2], [0.1, 0.3]], requires_grad=True)
    off = torch.tensor([[0.0, float("inf")], [0.0, 0.1]], requires_grad=True)
    valid = torch.tensor([[False, False], [True, True]])
    loss = relaxed_ranking(
        near,
        off,
        valid=valid,
        valid_uninteresting=torch.tensor([[True, False], [True, True]]),
        weight=torch.tensor([1.0, 0.0]),
        temperature=0.1,
    )
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(near.grad).all() and torch.isfinite(off.grad).all()
    assert not near.grad.any() and not off.grad.any()
