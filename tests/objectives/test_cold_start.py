"""Objectives of the cold-start rivals: golden values by hand, minima, gradients to the student only."""

from __future__ import annotations

import math

import pytest
import torch

from recdistill.objectives.aldi import aldi, teacher_weight
from recdistill.objectives.clcrec import clcrec, mix
from recdistill.objectives.dropoutnet import drop_preferences, dropoutnet


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def cross_entropy(logit: float, label: float) -> float:
    return label * softplus(-logit) + (1 - label) * softplus(logit)


def test_dropoutnet_by_hand_and_gradient_only_to_the_student():
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    teacher = torch.tensor([0.0, 4.0], requires_grad=True)
    loss = dropoutnet(scores, teacher)
    assert loss.item() == pytest.approx((1 + 4) / 2)
    loss.backward()
    assert teacher.grad is None
    assert scores.grad is not None and scores.grad.tolist() == [1.0, -2.0]
    assert dropoutnet(teacher, teacher).item() == 0.0
    assert dropoutnet(torch.zeros(0), torch.zeros(0)).item() == 0.0


def test_preferences_are_dropped_item_by_item():
    generator = torch.Generator().manual_seed(0)
    dropped = drop_preferences(torch.ones(4000, 3), share=0.3, generator=generator)
    rows = dropped.sum(dim=1)
    assert set(rows.tolist()) == {0.0, 3.0}  # whole items, not single numbers
    assert (rows == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(drop_preferences(torch.ones(9, 2), share=0.0), torch.ones(9, 2))
    assert not drop_preferences(torch.ones(9, 2), share=1.0).any()


def test_clcrec_by_hand():
    """One pair, one negative: cosines 1 and 0 of content, dot products 2 and 1 of what the user is shown."""
    user, own = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    content, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    shown, rest = torch.tensor([[2.0, 7.0]]), torch.tensor([[1.0, -3.0]])
    to_content, to_user = softplus((0 - 1) / 0.5), softplus((1 - 2) / 0.5)
    for balance in (0.0, 0.25, 1.0):
        loss = clcrec(user, own, content, other, shown, rest, temperature=0.5, balance=balance)
        assert loss.item() == pytest.approx(balance * to_content + (1 - balance) * to_user)
    taken = torch.tensor([[True]])  # the only negative is the user's own: nothing is left to tell apart
    loss = clcrec(user, own, content, other, shown, rest, temperature=0.5, balance=0.5, excluded=taken)
    assert loss.item() == pytest.approx(0.0)


def test_clcrec_trains_both_kinds_of_vectors():
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(count, 4, generator=generator, requires_grad=True) for count in (6, 6, 6, 9, 6, 9)]
    clcrec(*parts, temperature=0.2, balance=0.5).backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)


def test_mix_replaces_items_by_their_content():
    generator = torch.Generator().manual_seed(2)
    mixed = mix(torch.zeros(4000, 2), torch.ones(4000, 2), share=0.7, generator=generator)
    assert set(mixed.sum(dim=1).tolist()) == {0.0, 2.0}
    assert mixed.mean().item() == pytest.approx(0.7, abs=0.03)


def test_aldi_by_hand():
    """One pair in two dimensions, every part for itself and all together."""
    user = torch.tensor([[1.0, 1.0]])
    generated = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.25]])
    margin, teacher_margin = 1 - 0.5, 2 - 0.25
    parts = {
        "rating": abs(1 - 2) + abs(0.5 - 0.25),
        "ranking": cross_entropy(margin, 1 / (1 + math.exp(-teacher_margin))),
        "identification": cross_entropy(1.0, 1 / (1 + math.exp(-4.0))),  # |g|² − g·g' = 1, of the teacher's 4
    }
    supervised = softplus(-margin)

    def loss(weight: float = 1.0, **weights: float) -> float:
        given = {"rating": 0.0, "ranking": 0.0, "identification": 0.0, **weights}
        return aldi(generated, teacher, user, user, weight=torch.tensor([weight]), **given).item()

    assert loss() == pytest.approx(supervised)
    for name, value in parts.items():
        assert loss(**{name: 2.0}) == pytest.approx(supervised + 2 * value, rel=1e-5)
    trusted = loss(0.5, rating=1.0, ranking=1.0, identification=1.0)
    expected = supervised + parts["rating"] + 0.5 * (parts["ranking"] + parts["identification"])
    assert trusted == pytest.approx(expected, rel=1e-5)


def test_aldi_aligns_generated_items_and_leaves_the_teacher_alone():
    generator = torch.Generator().manual_seed(3)
    teacher = tuple(torch.randn(32, 4, generator=generator).requires_grad_() for _ in range(2))
    user = torch.randn(32, 4, generator=generator)
    weight = torch.ones(32)
    generated = tuple(torch.randn(32, 4, generator=generator).requires_grad_() for _ in range(2))

    def aligned(items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        options = {"rating": 1.0, "ranking": 1.0, "identification": 1.0}
        whole = aldi((items[0], items[1]), (teacher[0], teacher[1]), user, user, weight=weight, **options)
        supervised = dict.fromkeys(options, 0.0)
        return whole - aldi((items[0], items[1]), (teacher[0], teacher[1]), user, user, weight=weight, **supervised)

    aligned(generated).backward()
    assert all(part.grad is None for part in teacher)
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in generated)
    # The three alignments are least where the generated items are the teacher's.
    least = aligned(teacher)
    for _ in range(20):
        moved = tuple(part.detach() + 0.3 * torch.randn(32, 4, generator=generator) for part in teacher)
        assert aligned(moved) > least


def test_teachers_are_trusted_by_frequency():
    weight = teacher_weight(torch.tensor([0.0, 0.5, 1.0, 100.0]), expected=1.0, cap=2.0)
    assert weight.tolist() == pytest.approx([0.0, math.tanh(1.0), math.tanh(2.0), math.tanh(2.0)])
