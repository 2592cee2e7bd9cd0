"""CoSENT: golden value, order, invariances, and what it does where nothing is ordered."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.objectives.cosent import cosent


def at_cosines(*cosines: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries along the first axis, and targets at these cosines to them."""
    cosine = torch.tensor(cosines)
    target = torch.stack([cosine, (1 - cosine**2).sqrt()], dim=1)
    return torch.tensor([[1.0, 0.0]]).expand_as(target), target


def drawn(pairs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    query, target = (torch.randn(pairs, 4, generator=generator) for _ in range(2))
    return query, target, torch.randint(0, 3, (pairs,), generator=generator).float(), generator


def test_by_hand():
    query, target = at_cosines(0.5, 0.8, 0.0)
    loss = cosent(query, target, torch.tensor([2.0, 1.0, 1.0]), temperature=0.5)
    # Pair 0 should be above pairs 1 and 2, which are not compared.
    assert loss.item() == pytest.approx(math.log(1 + math.exp(0.3 / 0.5) + math.exp(-0.5 / 0.5)))


@pytest.mark.parametrize("pairs", [1, 4])
def test_without_an_ordered_pair_value_and_gradient_are_zero(pairs):
    query = torch.randn(pairs, 3, requires_grad=True)
    loss = cosent(query, torch.randn(pairs, 3), torch.full((pairs,), 0.7), temperature=0.05)
    loss.backward()
    assert loss.item() == 0.0 and query.grad.abs().max() == 0.0


def test_stays_finite_at_small_temperatures():
    query, target = at_cosines(-1.0, 1.0)
    query = query.clone().requires_grad_()
    loss = cosent(query, target, torch.tensor([1.0, 0.0]), temperature=1e-3)
    loss.backward()
    assert loss.item() == pytest.approx(2000.0) and torch.isfinite(query.grad).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10_000))
def test_lengths_of_vectors_order_of_rows_and_scale_of_scores_do_not_count(pairs, seed):
    query, target, score, generator = drawn(pairs, seed)
    loss = cosent(query, target, score, temperature=0.2)
    lengths = torch.rand(2, pairs, 1, generator=generator) + 0.1
    order = torch.randperm(pairs, generator=generator)
    scaled = cosent(query * lengths[0], target * lengths[1], score, temperature=0.2)
    shuffled = cosent(query[order], target[order], score[order], temperature=0.2)
    regraded = cosent(query, target, score * 7 - 3, temperature=0.2)
    torch.testing.assert_close(torch.stack([scaled, shuffled, regraded]), loss.expand(3), atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=8, unique_by=lambda value: round(value, 2)))
def test_right_order_is_cheaper_than_the_opposite(cosines):
    query, target = at_cosines(*cosines)
    score = torch.tensor(cosines)
    right, wrong = (cosent(query, target, sign * score, temperature=0.1) for sign in (1, -1))
    assert right < wrong


def test_descent_puts_pairs_in_order():
    query, target, _, _ = drawn(6, seed=1)
    score = torch.arange(6.0)
    query.requires_grad_()
    optimizer = torch.optim.Adam([query], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        cosent(query, target, score, temperature=0.1).backward()
        optimizer.step()
    assert torch.cosine_similarity(query, target).argsort().tolist() == list(range(6))
