"""Temperatures stay in their bounds, leave them when they want to, and are kept."""

import pytest
import torch

from recdistill.pretrain.temperatures import Temperatures


def made(initial: float = 0.1) -> Temperatures:
    return Temperatures(3, initial=initial, low=0.02, high=0.5)


def test_inside_the_bounds_it_is_a_plain_exponential():
    temperatures = made()
    temperatures(1).mul(3).backward()
    assert temperatures(1).item() == pytest.approx(0.1) and temperatures(1).shape == ()
    # d τ / d log τ = τ; other datasets are untouched.
    torch.testing.assert_close(temperatures.log.grad, torch.tensor([0.0, 0.3, 0.0]))


@pytest.mark.parametrize(("sign", "bound"), [(1, 0.02), (-1, 0.5)])
def test_rests_at_the_bound_and_leaves_it_at_once(sign, bound):
    temperatures = made()
    optimizer = torch.optim.SGD(temperatures.parameters(), lr=1.0)

    def descend(slope: float) -> float:
        optimizer.zero_grad()
        temperatures(0).mul(slope).backward()
        optimizer.step()
        return temperatures(0).item()

    seen = [descend(sign * 5.0) for _ in range(200)]
    assert seen[-1] == pytest.approx(bound) and all(0.02 - 1e-9 <= value <= 0.5 + 1e-9 for value in seen)
    rested = temperatures.log.detach().clone()
    descend(sign * 5.0)
    assert torch.equal(temperatures.log, rested)  # it does not run away unseen
    # The last step may have carried it past the bound by as much as one step is: it is back within two.
    assert any(abs(descend(-sign * 5.0) - bound) > 1e-3 for _ in range(20))


@pytest.mark.parametrize("bound", [0.02, 0.5])
def test_may_begin_at_a_bound(bound):
    temperatures = made(bound)
    for slope, moves in ((1.0, bound == 0.5), (-1.0, bound == 0.02)):
        temperatures.zero_grad()
        temperatures(2).mul(slope).backward()
        assert bool(temperatures.log.grad.any()) is moves


def test_is_kept():
    temperatures = made()
    with torch.no_grad():
        temperatures.log[1] += 1.0
    other = made(0.3)
    other.load_state_dict(temperatures.state_dict())
    assert [other(i).item() for i in range(3)] == [temperatures(i).item() for i in range(3)]
    assert other(1) > other(0)


@pytest.mark.parametrize("initial", [0.01, 0.6])
def test_bounds_must_hold_the_initial_value(initial):
    with pytest.raises(ValueError, match="outside"):
        made(initial)
