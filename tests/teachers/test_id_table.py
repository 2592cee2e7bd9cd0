"""The fused table: lookups, updates by hand, state."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from recdistill.teachers.tables import IdTable


def make(*, seed: int = 3) -> IdTable:
    return IdTable(6, dim=4, seed=seed, scale=0.1, learning_rate=0.5)


def test_lookup_gives_rows_in_order_with_repeats() -> None:
    table = make()
    ids = torch.tensor([4, 0, 4])
    assert torch.equal(table.lookup(ids).detach(), table.weight[ids])


def test_pool_sums_bags_and_an_empty_bag_is_zero() -> None:
    table = make()
    pooled = table.pool(torch.tensor([1, 2, 5]), torch.tensor([2, 0, 1])).detach()
    expected = torch.stack([table.weight[1] + table.weight[2], torch.zeros(4), table.weight[5]])
    torch.testing.assert_close(pooled, expected)


def test_backward_updates_touched_rows_by_row_wise_adagrad_and_no_others() -> None:
    table = make()
    before = table.weight.clone()
    gradient = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    table.lookup(torch.tensor([2, 2, 5])).backward(gradient)
    summed = torch.tensor([4.0, 2.0, 0.0, 1.0])  # row 2 was looked up twice: one update by the sum
    mean_square = float((summed**2).mean())
    torch.testing.assert_close(table.weight[2], before[2] - 0.5 * summed / math.sqrt(mean_square))
    torch.testing.assert_close(table.weight[5], before[5] - 0.5 * torch.ones(4))
    untouched = [0, 1, 3, 4]
    assert torch.equal(table.weight[untouched], before[untouched])
    assert table.state_dict()["id.accumulator"].tolist() == pytest.approx([0, 0, mean_square, 0, 0, 1])


def test_initial_values_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(2)
    torch.rand(17)
    assert torch.equal(first.weight, make().weight)
    assert not torch.equal(first.weight, make(seed=4).weight)


def test_state_round_trip_is_bit_equal_and_holds_no_code(tmp_path: Path) -> None:
    def train(table: IdTable, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            ids = torch.randint(6, (5,), generator=generator)
            table.lookup(ids).backward(torch.randn(5, 4, generator=generator))

    whole, first, second = make(), make(), make(seed=9)
    train(whole, range(12))
    train(first, range(7))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(second, range(7, 12))
    for name, values in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], values), name


def test_a_width_that_the_kernel_cannot_read_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        IdTable(3, dim=6, seed=0, scale=0.1, learning_rate=0.1)
