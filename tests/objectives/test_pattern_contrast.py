"""Contrast of views: equal to a loop over patterns, with missing views, hard negatives, prefixes and late fusion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.objectives.infonce import infonce
from recdistill.objectives.late_fusion import LateFusionGate, late_fusion
from recdistill.objectives.matryoshka import over_prefixes
from recdistill.objectives.micl import micl, pattern_contrast

VIEWS, PAIRS, HARD, WIDTH = 3, 5, 2, 4
ALL = [(query, target) for query in range(VIEWS) for target in range(VIEWS)]


class Batch:
    """Random views, of which some are missing, with two hard negatives behind the pairs' own targets."""

    def __init__(self, seed: int, present: float = 0.6) -> None:
        generator = torch.Generator().manual_seed(seed)
        candidates = PAIRS + HARD
        self.query = torch.randn(VIEWS, PAIRS, WIDTH, generator=generator, requires_grad=True)
        self.target = torch.randn(VIEWS, candidates, WIDTH, generator=generator, requires_grad=True)
        self.query_valid = torch.rand(VIEWS, PAIRS, generator=generator) < present
        self.target_valid = torch.rand(VIEWS, candidates, generator=generator) < present
        self.excluded = torch.rand(PAIRS, candidates, generator=generator) < 0.2

    def loss(self, patterns=ALL, temperature=0.3):
        views = self.query, self.target, self.query_valid, self.target_valid
        return pattern_contrast(*views, patterns=patterns, temperature=temperature, excluded=self.excluded)

    def looped(self, patterns=ALL):
        """The same, one pattern after the other, with only the rows and candidates that have the views."""
        losses = []
        for query, target in patterns:
            candidates = self.target_valid[target].nonzero().flatten()
            rows = (self.query_valid[query] & self.target_valid[target, :PAIRS]).nonzero().flatten()
            if len(rows) and len(candidates) > 1:
                losses.append(
                    infonce(
                        self.query[query, rows], self.target[target, candidates],
                        torch.searchsorted(candidates, rows), temperature=0.3,
                        excluded=self.excluded[rows][:, candidates],
                    )
                )  # fmt: skip
        return torch.stack(losses).mean() if losses else self.query.sum() * 0.0

    def gradients(self, loss):
        return torch.autograd.grad(loss, (self.query, self.target), materialize_grads=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.3, 0.7, 1.0]), st.lists(st.sampled_from(ALL), min_size=1))
def test_equals_a_loop_over_patterns_in_value_and_gradient(seed, present, patterns):
    batch = Batch(seed, present)
    loss, looped = batch.loss(patterns), batch.looped(patterns)
    torch.testing.assert_close(loss, looped)
    for found, expected in zip(batch.gradients(loss), batch.gradients(looped), strict=True):
        torch.testing.assert_close(found, expected)


def test_by_hand():
    unit = torch.eye(2)
    views = torch.stack([unit, unit.flip(0)])  # each row's second view is the other row's first
    everywhere = torch.ones(2, 2, dtype=torch.bool)
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    for patterns, expected in (([(0, 0)], right), ([(0, 1)], wrong), ([(0, 0), (1, 0)], (right + wrong) / 2)):
        loss = pattern_contrast(views, views, everywhere, everywhere, patterns=patterns, temperature=1.0)
        assert loss.item() == pytest.approx(expected)
    assert micl(views, views, everywhere, everywhere, temperature=1.0).item() == pytest.approx(right)


def test_what_is_not_valid_is_not_read():
    batch = Batch(seed=3)
    loss = batch.loss()
    with torch.no_grad():
        batch.query[~batch.query_valid] = torch.nan
        batch.target[~batch.target_valid] = torch.nan
    again = batch.loss()
    assert torch.equal(again, loss)
    for gradient, valid in zip(batch.gradients(again), (batch.query_valid, batch.target_valid), strict=True):
        assert torch.isfinite(gradient).all() and not gradient[~valid].any() and gradient[valid].any()


def test_patterns_that_nothing_can_take_are_no_loss():
    batch = Batch(seed=0)
    batch.query_valid[:] = False
    loss = batch.loss()
    assert loss.item() == 0.0 and not any(gradient.any() for gradient in batch.gradients(loss))
    batch.query_valid[:] = batch.target_valid[:] = False
    batch.query_valid[:, 0] = batch.target_valid[:, 0] = True
    batch.query_valid[1], batch.target_valid[1] = True, True
    # A single pair has nothing to be told from, and does not dilute the mean.
    assert torch.equal(batch.loss([(0, 0), (1, 1), (2, 2)]), batch.loss([(1, 1)]))


def test_no_patterns_are_refused():
    with pytest.raises(ValueError, match="no patterns"):
        Batch(seed=0).loss([])


def test_micl_is_the_contrast_of_each_view_with_itself():
    batch = Batch(seed=4)
    views = batch.query, batch.target, batch.query_valid, batch.target_valid
    loss = micl(*views, temperature=0.3, excluded=batch.excluded)
    assert torch.equal(loss, batch.loss([(0, 0), (1, 1), (2, 2)]))


def test_hard_negatives_raise_the_loss_by_their_share_of_the_denominator():
    query, own = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    hard = torch.tensor([[[0.6, 0.8]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    loss = pattern_contrast(
        query, torch.cat([own, hard], dim=1), valid[:, :1], valid, patterns=[(0, 0)], temperature=0.5
    )
    assert loss.item() == pytest.approx(math.log(1 + math.exp((0.6 - 1) / 0.5)))


def test_prefixes():
    batch = Batch(seed=5)

    def contrast(joined):
        query, target = joined.split([PAIRS, PAIRS + HARD], dim=1)
        valid = batch.query_valid, batch.target_valid
        return pattern_contrast(query, target, *valid, patterns=ALL, temperature=0.3, excluded=batch.excluded)

    loss = over_prefixes(contrast, torch.cat([batch.query, batch.target], dim=1), [2, WIDTH])
    narrow = Batch(seed=5)
    narrow.query, narrow.target = narrow.query[..., :2], narrow.target[..., :2]
    torch.testing.assert_close(loss, (batch.loss() + narrow.loss()) / 2)


def test_a_temperature_gets_its_gradient():
    temperature = torch.tensor(0.3, requires_grad=True)
    Batch(seed=6).loss(temperature=temperature).backward()
    assert temperature.grad.abs() > 0


def test_gate_by_hand():
    gate = LateFusionGate(2)
    vision, fused = torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, 0.0]])
    assert torch.equal(gate(vision, fused), torch.tensor([[2.0, 2.0]]))
    with torch.no_grad():
        gate.gate.weight[0, 2] = 1.0  # the first coordinate's gate reads the fused first coordinate
        gate.gate.bias[1] = -2.0
    first, second = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(2))
    expected = torch.tensor([[first * 1 + (1 - first) * 3, second * 4]])
    torch.testing.assert_close(gate(vision, fused), expected)


def test_late_fusion_contrasts_the_mixes_of_pairs_that_have_vision():
    torch.manual_seed(0)
    gate = LateFusionGate(WIDTH)
    torch.nn.init.normal_(gate.gate.weight)
    query, target = [tuple(torch.randn(2, rows, WIDTH)) for rows in (4, 6)]
    query_valid = torch.tensor([True, True, False, True])
    target_valid = torch.tensor([True, False, True, True, True, False])
    loss = late_fusion(query, target, query_valid, target_valid, gate=gate, temperature=0.2)
    rows, candidates = [0, 3], [0, 2, 3, 4]
    expected = infonce(gate(*query)[rows], gate(*target)[candidates], torch.tensor([0, 2]), temperature=0.2)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert gate.gate.weight.grad.any() and gate.gate.bias.grad.any()
