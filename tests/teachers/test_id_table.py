"""The fused table: lookups, features, updates by hand, initial values, state."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.teachers.tables import BLOCK, IdTable, SparseFeature, fill_


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


def tags(*, rows: int = 6) -> SparseFeature:
    """Item 0 has tag 1, item 1 none, item 2 tags 1 and 2, every other item tag 0."""
    values = [[1], [], [1, 2], *[[0]] * (rows - 3)]
    offsets = torch.tensor([0, *[len(each) for each in values]]).cumsum(0)
    return SparseFeature("tags", 3, torch.tensor([value for each in values for value in each]), offsets)


def featured(*, scale: float = 0.1) -> IdTable:
    author = SparseFeature("author", 2, torch.tensor([0, 1, 0, 0, 0, 0]), torch.arange(7))
    return IdTable(6, dim=4, seed=3, scale=scale, learning_rate=0.5, features=[tags(), author])


def test_a_vector_is_the_items_row_and_the_mean_of_each_features_rows() -> None:
    table = featured()
    own, tag, author = (table.state_dict()[f"{name}.weight"] for name in ("id", "tags", "author"))
    expected = torch.stack(
        [own[2] + (tag[1] + tag[2]) / 2 + author[0], own[1] + author[1], own[0] + tag[1] + author[0]]
    )
    ids = torch.tensor([2, 1, 0])
    torch.testing.assert_close(table.lookup(ids).detach(), expected)
    torch.testing.assert_close(table.read(0, 3), expected.flip(0))
    bags = table.pool(ids, torch.tensor([2, 0, 1])).detach()
    torch.testing.assert_close(bags, torch.stack([expected[0] + expected[1], torch.zeros(4), expected[2]]))
    assert torch.equal(table.weight, make().weight)  # the items' own rows are those of a table without features


def test_a_features_rows_get_their_share_of_the_gradient() -> None:
    table = featured()
    before = {name: values.clone() for name, values in table.state_dict().items()}
    gradient = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    table.lookup(torch.tensor([2, 0])).backward(gradient)
    after = table.state_dict()
    # Tag 1 is half of item 2's tags and all of item 0's: (1, 2); tag 2 is the other half of item 2's: (1, 0).
    assert after["tags.accumulator"].tolist() == pytest.approx([0, (1 + 4) / 4, 1 / 4])
    assert after["author.accumulator"].tolist() == pytest.approx([(4 + 4) / 4, 0])
    assert after["id.accumulator"].tolist() == pytest.approx([1, 0, 1, 0, 0, 0])
    moved = before["tags.weight"] - after["tags.weight"]
    torch.testing.assert_close(moved[1], 0.5 * torch.tensor([1.0, 2.0, 0.0, 0.0]) / math.sqrt(5 / 4))
    assert torch.equal(moved[0], torch.zeros(4))


def test_reading_gives_copies_and_learns_nothing() -> None:
    for table in (make(), featured()):
        before = {name: values.clone() for name, values in table.state_dict().items()}
        rows = table.read(1, 5)
        assert rows.shape == (4, 4) and not rows.requires_grad
        torch.testing.assert_close(rows, table.lookup(torch.arange(1, 5)).detach())
        rows.zero_()
        assert all(torch.equal(table.state_dict()[name], values) for name, values in before.items())


@pytest.mark.parametrize("rows", [3, 7, 100, BLOCK])
def test_the_first_block_is_drawn_as_one_from_the_seed(rows: int) -> None:
    table = IdTable(rows, dim=4, seed=11, scale=0.2, learning_rate=0.1)
    expected = torch.empty(rows, 4).normal_(0, 0.2, generator=torch.Generator().manual_seed(11))
    assert torch.equal(table.weight, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2 * BLOCK + 5), st.data())
def test_a_range_of_rows_is_drawn_like_the_whole(rows: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    whole, part = torch.empty(rows, 2), torch.empty(stop - start, 2)
    fill_(whole, start=0, rows=rows, seed=1, table="id", scale=1.0)
    fill_(part, start=start, rows=rows, seed=1, table="id", scale=1.0)
    assert torch.equal(part, whole[start:stop])


def test_blocks_and_tables_are_drawn_apart() -> None:
    whole, other = torch.empty(2 * BLOCK, 2), torch.empty(BLOCK, 2)
    fill_(whole, start=0, rows=2 * BLOCK, seed=1, table="id", scale=3.0)
    fill_(other, start=0, rows=BLOCK, seed=1, table="tags", scale=3.0)
    blocks = torch.stack([whole[:BLOCK], whole[BLOCK:], other]).flatten(1)
    torch.testing.assert_close(torch.corrcoef(blocks), torch.eye(3), rtol=0, atol=0.02)
    torch.testing.assert_close(blocks.std(1), torch.full((3,), 3.0), rtol=0.02, atol=0)


def test_reset_rows_are_like_new() -> None:
    table = make()
    table.lookup(torch.arange(6)).sum().backward()
    before = table.weight.clone()
    table.reset(torch.tensor([4, 1]), generation=9)
    assert torch.equal(table.weight[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    assert (table.state_dict()["id.accumulator"] > 0).tolist() == [True, False, True, True, False, True]
    again, other = make(), make()
    again.reset(torch.tensor([4, 1]), generation=9)
    other.reset(torch.tensor([4, 1]), generation=10)
    assert torch.equal(again.weight[[4, 1]], table.weight[[4, 1]])
    assert not torch.equal(other.weight[[4, 1]], table.weight[[4, 1]])
    many = IdTable(5000, dim=4, seed=0, scale=0.1, learning_rate=0.1)
    many.reset(torch.arange(5000), generation=0)
    assert float(many.weight.std()) == pytest.approx(0.1, rel=0.05)
    assert float(many.weight.mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (SparseFeature("id", 1, torch.tensor([0]), torch.tensor([0, 1])), "differ"),
        (SparseFeature("a", 1, torch.tensor([0]), torch.tensor([0, 1, 1])), "2 numbers that rise"),
        (SparseFeature("a", 1, torch.tensor([0]), torch.tensor([1, 1])), "2 numbers that rise"),
        (SparseFeature("a", 1, torch.tensor([1]), torch.tensor([0, 1])), "rows in 0 … 0"),
        (SparseFeature("a", 1, torch.tensor([-1]), torch.tensor([0, 1])), "rows in 0 … 0"),
    ],
)
def test_a_feature_that_does_not_fit_is_refused(feature: SparseFeature, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        IdTable(1, dim=4, seed=0, scale=0.1, learning_rate=0.1, features=[feature])
