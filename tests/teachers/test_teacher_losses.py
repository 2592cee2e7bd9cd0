"""Losses of the teachers against values computed by hand, and sampled softmax against the full one."""

from __future__ import annotations

import math

import pytest
import torch

from recdistill.teachers.losses import (
    MASKED,
    bpr_loss,
    candidate_bias,
    full_softmax_loss,
    gbce_loss,
    gbce_power,
    softmax_loss,
)


def test_softmax_by_hand() -> None:
    targets = torch.tensor([1.0, 0.0, 2.0])
    user = torch.tensor([0, 0, 1])
    negatives = torch.tensor([[0.0, 1.0], [MASKED, 0.5]])
    rest = math.exp(0.0) + math.exp(1.0)
    by_hand = [
        -math.log(math.e / (math.e + rest)),
        -math.log(1 / (1 + rest)),
        -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(0.5))),
    ]
    weight = torch.tensor([1.0, 2.0, 3.0])
    expected = sum(w * value for w, value in zip([1, 2, 3], by_hand, strict=True)) / 6
    assert float(softmax_loss(targets, user, negatives, weight=weight)) == pytest.approx(expected, rel=1e-6)


def test_logq_correction_by_hand() -> None:
    # Four draws; the items' probabilities are 1/2 and 1/8, so 2 and 1/2 are expected.
    log_expected = torch.tensor([0.5, 0.125]).log() + math.log(4)
    scores = torch.tensor([[1.0, 1.0]]) + candidate_bias(torch.zeros(2), log_expected)
    rest = math.exp(1.0) / 2 + math.exp(1.0) / 0.5
    loss = softmax_loss(torch.tensor([0.3]), torch.tensor([0]), scores, weight=torch.ones(1))
    assert float(loss) == pytest.approx(math.log(1 + rest / math.exp(0.3)), rel=1e-6)


def test_corrected_sample_estimates_the_full_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(200, generator=generator)
    shares = torch.softmax(3 * torch.randn(200, generator=generator), 0)
    target, row, weight = torch.tensor([1.5]), torch.tensor([0]), torch.ones(1)
    full = softmax_loss(target, row, items.unsqueeze(0), weight=weight)
    drawn = torch.multinomial(shares, 400_000, replacement=True, generator=generator)
    bias = candidate_bias(torch.zeros(400_000), (shares[drawn] * 400_000).log())
    sampled = softmax_loss(target, row, (items[drawn] + bias).unsqueeze(0), weight=weight)
    uncorrected = softmax_loss(target, row, items[drawn].unsqueeze(0), weight=weight)
    assert float(sampled) == pytest.approx(float(full), rel=0.02)
    assert abs(float(uncorrected) - float(full)) > 1


def test_bpr_by_hand() -> None:
    negatives = torch.tensor([[0.0, 3.0], [1.0, MASKED]])
    loss = bpr_loss(
        torch.tensor([1.0, 2.0]),
        torch.tensor([0, 1]),
        negatives,
        column=torch.tensor([1, 1]),
        weight=torch.tensor([1.0, 1.0]),
    )
    assert float(loss) == pytest.approx(-math.log(1 / (1 + math.exp(3.0 - 1.0))) / 2, rel=1e-6)


def test_a_user_without_negatives_gives_no_loss_and_no_gradient() -> None:
    targets = torch.tensor([0.5], requires_grad=True)
    negatives = torch.full((1, 3), MASKED, requires_grad=True)
    loss = softmax_loss(targets, torch.tensor([0]), negatives, weight=torch.ones(1))
    loss.backward()
    assert loss.item() == 0.0
    assert targets.grad is not None and targets.grad.abs().max() == 0
    assert negatives.grad is not None and torch.isfinite(negatives.grad).all()


def test_gbce_by_hand() -> None:
    """Scores log 3 and −log 3 mean σ = 3/4 and 1/4; a masked negative counts in the mean's size alone."""
    log3 = math.log(3)
    loss = gbce_loss(
        torch.tensor([log3]), torch.tensor([0]), torch.tensor([[-log3, MASKED]]), beta=0.5, weight=torch.ones(1)
    )
    assert float(loss) == pytest.approx(-(0.5 * math.log(0.75) + math.log(0.75)) / 3, rel=1e-6)


def test_gbce_power_runs_from_cross_entropy_to_the_sampling_rate() -> None:
    assert gbce_power(negatives=10, items=101, t=0) == pytest.approx(1)
    assert gbce_power(negatives=10, items=101, t=1) == pytest.approx(0.1)
    assert gbce_power(negatives=10, items=101, t=0.75) == pytest.approx(0.1 * (0.75 * (1 - 10) + 10))
    assert gbce_power(negatives=100, items=101, t=1) == pytest.approx(1)  # every item is a negative


@pytest.mark.parametrize("block", [1, 3, 100])
def test_full_softmax_in_blocks_equals_the_plain_one_in_value_and_gradient(block: int) -> None:
    torch.manual_seed(0)
    states = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    items = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    bias, target = torch.randn(9, dtype=torch.float64), torch.tensor([0, 8, 3, 3, 1, 0, 5])
    found = 2 * full_softmax_loss(states, items, bias, target, block=block)
    found_gradients = torch.autograd.grad(found, [states, items])
    plain = 2 * torch.nn.functional.cross_entropy(states @ items.T + bias, target)
    assert found.item() == pytest.approx(plain.item(), rel=1e-12)
    for one, other in zip(found_gradients, torch.autograd.grad(plain, [states, items]), strict=True):
        torch.testing.assert_close(one, other)
    unbiased = full_softmax_loss(states, items, None, target, block=block)
    assert unbiased.item() == pytest.approx(torch.nn.functional.cross_entropy(states @ items.T, target).item())
    # And as the softmax of scores that leave the target out of its own rivals.
    scores = (states @ items.T + bias).masked_fill(torch.nn.functional.one_hot(target, 9).bool(), MASKED)
    goals = (states * items[target]).sum(1) + bias[target]
    apart = softmax_loss(goals, torch.arange(7), scores, weight=torch.ones(7, dtype=torch.float64))
    assert found.item() == pytest.approx(2 * apart.item(), rel=1e-9)
