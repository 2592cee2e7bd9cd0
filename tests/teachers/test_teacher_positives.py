"""What teachers are given, and how they draw from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.teachers.indexing import expand, gather, is_member
from recdistill.teachers.positives import InMemory, NegativeSampler, Positives, UserSampler

LIKE, BOTH, NOTHING = ["like"], ["like", "share"], list[str]()


def by_user(positives: Positives) -> list[list[str]]:
    ids = positives.item_ids[positives.item.numpy()].tolist()
    return [ids[start:stop] for start, stop in zip(positives.starts[:-1], positives.starts[1:], strict=True)]


def test_distinct_positives_in_time_order_by_hand(log_of: Callable[[list], Log]) -> None:
    log = log_of(
        [
            ("u", "c", 5, LIKE), ("u", "a", 1, BOTH), ("u", "b", 3, LIKE), ("u", "a", 9, LIKE), ("u", "d", 2, NOTHING),
            ("v", "b", 1, LIKE), ("w", "e", 1, NOTHING),
        ]
    )  # fmt: skip
    positives = Positives.of(log, min_behaviours=1, last=10, seed=0)
    assert positives.item_ids.tolist() == ["a", "b", "c", "d", "e"]  # met is enough to be a negative
    assert by_user(positives) == [["a", "b", "c"], ["b"]]  # w liked nothing
    assert positives.behaviours.tolist() == [2, 1, 1, 1]
    assert positives.support.tolist() == [2, 2, 1, 0, 0]  # both events with a
    assert by_user(Positives.of(log, min_behaviours=1, last=2, seed=0)) == [["b", "c"], ["b"]]


def test_order_of_the_file_is_no_matter_even_among_equal_times(log_of: Callable[[list], Log]) -> None:
    rows = [(f"u{user}", f"i{item:02d}", 7, LIKE) for user in range(4) for item in range(12)]
    first = Positives.of(log_of(rows), min_behaviours=1, last=10, seed=0)
    again = Positives.of(log_of(rows[::-1]), min_behaviours=1, last=10, seed=0)
    assert by_user(first) == by_user(again)
    assert all(walk != sorted(walk) for walk in by_user(first))  # the id does not show


def test_nobody_with_two_positives_is_the_users_mistake(log_of: Callable[[list], Log]) -> None:
    log = log_of([("u", "a", 1, LIKE), ("v", "b", 1, LIKE), ("v", "c", 2, NOTHING)])
    with pytest.raises(UserError, match="no user has two training positives"):
        Positives.of(log, min_behaviours=1, last=10, seed=0)


def test_users_are_drawn_in_proportion_and_those_with_one_positive_never() -> None:
    users = UserSampler(torch.tensor([4, 1, 16]), power=0.5)
    drawn = torch.bincount(users.draw(60_000, torch.Generator().manual_seed(0)), minlength=3) / 60_000
    assert drawn.tolist() == pytest.approx([1 / 3, 0, 2 / 3], abs=0.01)


def test_a_source_tells_its_first_and_last_time(planted: Positives) -> None:
    assert InMemory(planted, power=1).times == (int(planted.time.min()), int(planted.time.max())) == (0, 76_000_000)


def test_negatives_report_their_expected_count() -> None:
    sampler = NegativeSampler(torch.tensor([0, 3, 15]), power=0.5)  # weights 1, 2, 4
    rows, log_expected = sampler.draw(70_000, torch.Generator().manual_seed(0))
    counted = torch.bincount(rows, minlength=3)
    assert counted.tolist() == pytest.approx([10_000, 20_000, 40_000], rel=0.05)
    for row in range(3):
        assert float(log_expected[rows == row][0].exp()) == pytest.approx(10_000 * 2**row, rel=1e-4)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=8))
def test_expand_equals_the_loop(ranges: list[tuple[int, int]]) -> None:
    starts, counts = (torch.tensor(values) for values in zip(*ranges, strict=True))
    group, row = expand(starts, counts)
    expected = [(index, start + k) for index, (start, count) in enumerate(ranges) for k in range(count)]
    assert list(zip(group.tolist(), row.tolist(), strict=True)) == expected


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_is_member_equals_the_loop(pairs: set[tuple[int, int]], asked: list[int]) -> None:
    groups, items = (torch.tensor(values) for values in zip(*pairs, strict=True))
    found = is_member(groups, items, torch.tensor(asked), size=4, vocabulary=10)
    assert found.tolist() == [[(group, item) in pairs for item in asked] for group in range(4)]


def test_support_counts_every_positive_event(planted: Positives) -> None:
    assert int(planted.support.sum()) == 60 * 8
    assert Counter(np.diff(planted.starts.numpy()).tolist()) == {8: 60}


def test_gather_equals_indexing_in_value_and_gradient() -> None:
    ids = torch.tensor([[2, 0], [2, 2]])
    vectors = [torch.arange(12.0).view(4, 3).requires_grad_() for _ in range(2)]
    factor = torch.arange(12.0).view(2, 2, 3)
    found = [gather(vectors[0], ids), vectors[1][ids]]
    assert torch.equal(*found)
    for values in found:
        (values * factor).sum().backward()
    assert vectors[0].grad is not None and vectors[1].grad is not None
    assert torch.equal(vectors[0].grad, vectors[1].grad)
