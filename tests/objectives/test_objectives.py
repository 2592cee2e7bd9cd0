"""Golden values by hand, minima, gradients and empty masks of every objective."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.objectives.alignment import alignment
from recdistill.objectives.infonce import infonce
from recdistill.objectives.matryoshka import over_prefixes
from recdistill.objectives.relational import relational

E2 = torch.eye(2)


def test_infonce_by_hand():
    # cos = 1 with the positive, 0 with the other: −log(e^2 / (e^2 + 1)) at temperature 1/2.
    loss = infonce(E2, E2 * 3, torch.tensor([0, 1]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_infonce_log_q_by_hand():
    log_q = torch.log(torch.tensor([0.8, 0.2]))
    loss = infonce(E2[:1], E2, torch.tensor([0]), temperature=1.0, log_q=log_q)
    assert loss.item() == pytest.approx(-math.log((math.e / 0.8) / (math.e / 0.8 + 1 / 0.2)))


def test_infonce_leaves_false_negatives_out_but_never_the_positive():
    everything = torch.ones(2, 2, dtype=torch.bool)
    assert infonce(E2, E2, torch.tensor([1, 0]), temperature=1.0, excluded=everything).item() == pytest.approx(0.0)


def test_infonce_weights():
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    positive = torch.tensor([0, 1])
    only_first = infonce(query, E2, positive, temperature=1.0, weight=torch.tensor([2.0, 0.0]))
    assert only_first.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert infonce(query, E2, positive, temperature=1.0, weight=torch.zeros(2)).item() == 0.0


def test_alignment_by_hand_and_gradient_only_to_the_student():
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    teacher = torch.tensor([[5.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = alignment(student, teacher, weight=torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(0.25)  # distances 0 and 1, weights 3 and 1
    loss.backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_alignment_of_unknown_items_is_zero():
    loss = alignment(E2.clone().requires_grad_(), E2, weight=torch.zeros(2))
    loss.backward()
    assert loss.item() == 0.0


def test_relational_by_hand():
    # Item 0's others are at cosine 1 and 0 for the teacher, 0 and 1 for the student; items 1 and 2 likewise.
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    loss = relational(student, teacher, weight=torch.ones(3), temperature=1.0, teacher_temperature=1.0)
    high, low = math.e / (math.e + 1), 1 / (math.e + 1)
    first = high * math.log(high / low) + low * math.log(low / high)  # item 0: shares swapped
    second = high * math.log(high / 0.5) + low * math.log(low / 0.5)  # item 1: the student sees both others alike
    third = 0.5 * math.log(0.5 / high) + 0.5 * math.log(0.5 / low)  # item 2: the teacher sees both alike
    assert loss.item() == pytest.approx((first + second + third) / 3, rel=1e-5)


def test_relational_is_zero_at_the_teacher_and_ignores_unknown_items():
    torch.manual_seed(0)
    teacher = torch.randn(6, 4)
    weight = torch.tensor([1.0, 0.5, 0.2, 1.0, 0.0, 0.0])
    student = teacher.clone()
    student[4:] = torch.randn(2, 4)  # items that the teacher does not know
    student.requires_grad_()
    loss = relational(student, teacher, weight=weight, temperature=0.3, teacher_temperature=0.3)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    loss.backward()
    assert torch.isfinite(student.grad).all() and not student.grad[4:].any()


def test_relational_with_too_few_items_has_a_zero_gradient():
    student = torch.randn(4, 3, requires_grad=True)
    relational(
        student, torch.randn(4, 3), weight=torch.tensor([1.0, 1, 0, 0]), temperature=1.0, teacher_temperature=1.0
    ).backward()
    assert not student.grad.any()


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 12), st.floats(0.05, 2.0), st.integers(0, 10_000))
def test_relational_is_a_divergence(items, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(items, 4, generator=generator), torch.randn(items, 5, generator=generator)
    loss = relational(
        student,
        teacher,
        weight=torch.rand(items, generator=generator) + 0.1,
        temperature=temperature,
        teacher_temperature=0.2,
    )
    assert loss.item() >= -1e-5 and math.isfinite(loss.item())


def test_prefixes_are_averaged():
    vectors = torch.tensor([[1.0, 2.0, 4.0]])
    assert over_prefixes(lambda part: part.sum(), vectors, [1, 3]).item() == pytest.approx((1 + 7) / 2)


def test_leading_dimensions_are_contrasts_of_their_own():
    torch.manual_seed(0)
    query, candidates = torch.randn(3, 4, 5), torch.randn(3, 6, 5)
    positive, excluded, weight = torch.randint(6, (3, 4)), torch.rand(3, 4, 6) < 0.3, torch.rand(3, 4)
    loss = infonce(query, candidates, positive, temperature=0.2, excluded=excluded, weight=weight)
    apart = [
        infonce(query[i], candidates[i], positive[i], temperature=0.2, excluded=excluded[i], weight=weight[i])
        for i in range(3)
    ]
    torch.testing.assert_close(loss, (torch.stack(apart) * weight.sum(1)).sum() / weight.sum())
