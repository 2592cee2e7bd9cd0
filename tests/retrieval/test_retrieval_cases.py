"""Sequence-to-item questions: what may enter a query, and what may change it."""

from __future__ import annotations

import numpy as np
import pytest
from event_logs import Event, make_log
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts.log import Log
from recdistill.retrieval.cases import Cases, seq2item_cases

ITEMS = list(range(100, 112))

events = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(ITEMS), st.integers(0, 12), st.integers(0, 3)),
    min_size=1,
    max_size=50,
)


def window(rows: list[Event], cut: int = 6) -> tuple[Log, Log] | None:
    later = [row for row in rows if row[2] >= cut]
    return (make_log(rows, ITEMS), make_log(later, ITEMS)) if later else None


def excluded(cases: Cases, at: int) -> set[int]:
    return set(cases.exclude_items[cases.exclude_offsets[at] : cases.exclude_offsets[at + 1]].tolist())


def same(first: Cases, second: Cases) -> bool:
    fields = ("user", "target", "query", "exclude_offsets", "exclude_items", "time", "query_time")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in fields)


def test_golden_case() -> None:
    rows: list[Event] = [
        ("u", 100, 1, 1),
        ("u", 101, 2, 0),
        ("u", 102, 3, 1),
        ("u", 103, 3, 2),
        ("u", 104, 9, 1),
        ("u", 105, 9, 1),
    ]
    cases = seq2item_cases(make_log(rows, ITEMS), make_log(rows[4:], ITEMS), length=4, seed=0)
    assert cases.item_ids[cases.target].tolist() == [104, 105]
    # Oldest first, padded behind; 101 was not liked; 104 and 105 share a time, so neither is in the other's past.
    assert [sorted(row[:3].tolist()) for row in cases.query] == [[0, 2, 3]] * 2
    assert cases.query[:, 0].tolist() == [0, 0]
    assert cases.query[:, 3].tolist() == [-1, -1]
    assert [excluded(cases, at) for at in range(2)] == [{0, 1, 2, 3}] * 2
    assert cases.time.tolist() == [9, 9]
    assert cases.query_time.tolist() == [[1, 3, 3, 0]] * 2


@settings(max_examples=60, deadline=None)
@given(
    rows=events, length=st.integers(1, 4), last=st.integers(1, 6), maximum=st.integers(1, 3), least=st.integers(1, 3)
)
def test_against_definition(rows: list[Event], length: int, last: int, maximum: int, least: int) -> None:
    logs = window(rows)
    if logs is None:
        return
    history, targets = logs
    cases = seq2item_cases(history, targets, length=length, last=last, max_targets=maximum, min_history=least, seed=3)
    asked: dict[int, int] = {}
    for at in range(len(cases)):
        user, target, time = int(cases.user_ids[cases.user[at]]), int(ITEMS[cases.target[at]]), int(cases.time[at])
        asked[user] = asked.get(user, 0) + 1
        # The target is a positive of the window, at its first time there.
        assert time == min(row[2] for row in rows if row[0] == user and row[1] == target and row[2] >= 6 and row[3])
        past = [row for row in rows if row[0] == user and row[2] < time]
        assert target not in {row[1] for row in past}
        liked = sorted((row[2] for row in past if row[3]), reverse=True)
        assert len(liked) >= least
        oldest = liked[min(last, len(liked)) - 1]
        pool = {row[1] for row in past if row[3] and row[2] >= oldest} - {target}
        certain = {row[1] for row in past if row[3] and row[2] > oldest} - {target}
        drawn = [ITEMS[item] for item in cases.query[at] if item >= 0]
        of_item = {row[1]: row[2] for row in sorted(past, key=lambda row: row[2]) if row[3]}  # the latest
        assert cases.query_time[at].tolist() == [*map(of_item.__getitem__, drawn)] + [0] * (length - len(drawn))
        assert len(set(drawn)) == len(drawn) <= length
        assert set(drawn) <= pool
        assert len(drawn) >= min(length, len(certain), 1)
        assert {ITEMS[item] for item in excluded(cases, at)} == {row[1] for row in past} - {target}
    assert all(count <= maximum for count in asked.values())


@settings(max_examples=40, deadline=None)
@given(rows=events, order=st.randoms(use_true_random=False))
def test_no_row_order_and_no_other_user_matters(rows: list[Event], order: object) -> None:
    rows = list(dict.fromkeys(rows))
    logs = window(rows)
    if logs is None:
        return
    cases = seq2item_cases(*logs, length=2, last=3, max_targets=2, seed=5)
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = window(shuffled)
    assert again is not None
    assert same(cases, seq2item_cases(*again, length=2, last=3, max_targets=2, seed=5))
    alone = window([row for row in rows if row[0] == 0])
    if alone is None:
        return
    of_user = seq2item_cases(*alone, length=2, last=3, max_targets=2, seed=5)
    mine = cases.take(cases.user_ids[cases.user] == 0)
    assert np.array_equal(of_user.query, mine.query)
    assert np.array_equal(of_user.target, mine.target)


def test_nothing_at_or_after_the_target_enters() -> None:
    """Whatever happens at the target's time or later cannot change its question."""
    rng = np.random.default_rng(0)
    times = rng.integers(0, 20, 30)
    rows = [(0, int(item), int(time), 1) for item, time in zip(rng.choice(ITEMS, 30), times, strict=True)]
    target: Event = (0, 111, 10, 1)
    before = [row for row in rows if row[2] < 10 and row[1] != 111]
    later = [row for row in rows if row[2] >= 10 and row[1] != 111]
    plain = seq2item_cases(make_log([*before, target], ITEMS), make_log([target], ITEMS), seed=1)
    busy = seq2item_cases(make_log([*before, target, *later], ITEMS), make_log([target], ITEMS), seed=1)
    assert len(plain) == 1
    assert same(plain, busy)


def test_a_seed_draws_other_queries_and_targets() -> None:
    rows: list[Event] = [(0, item, at, 1) for at, item in enumerate(ITEMS)]
    draws = [seq2item_cases(*window(rows), length=2, max_targets=2, seed=seed) for seed in range(20)]  # type: ignore[misc]
    assert len({tuple(cases.target) for cases in draws}) > 5
    assert len({tuple(cases.query[0]) for cases in draws}) > 5


def test_queries_are_drawn_evenly_from_the_pool() -> None:
    rows: list[Event] = [(user, item, at, 1) for user in range(400) for at, item in enumerate(ITEMS)]
    last = make_log([row for row in rows if row[2] == 11], ITEMS)
    cases = seq2item_cases(make_log(rows, ITEMS), last, length=3, seed=0)
    share = np.bincount(cases.query.ravel(), minlength=12)[:11] / (400 * 3 / 11)
    assert 0.75 < share.min() < share.max() < 1.25


def test_filtered_keeps_what_agrees() -> None:
    rows: list[Event] = [(0, item, at, 1) for at, item in enumerate(ITEMS)]
    parity = np.arange(len(ITEMS)) % 2
    cases = seq2item_cases(
        *window(rows),
        seed=0,
        agree=lambda target, past: parity[target] == parity[past],  # type: ignore[misc]
    )
    assert len(cases) == 6
    for target, query in zip(cases.target, cases.query, strict=True):
        assert {int(parity[item]) for item in query if item >= 0} == {int(parity[target])}


def test_history_need_not_be_excluded() -> None:
    rows: list[Event] = [(0, item, at, 1) for at, item in enumerate(ITEMS)]
    cases = seq2item_cases(*window(rows), seed=0, exclude_history=False)  # type: ignore[misc]
    assert len(cases.exclude_items) == 0
    assert cases.exclude_offsets.tolist() == [0] * (len(cases) + 1)


def test_who_comes_back_is_asked_only_where_history_counts() -> None:
    """Item 100 was met before, unliked, and item 101 liked; 102 is new."""
    rows: list[Event] = [(0, 100, 0, 0), (0, 101, 1, 1), (0, 100, 6, 1), (0, 101, 7, 1), (0, 102, 8, 1)]
    asked = {
        exclude: [ITEMS[item] for item in seq2item_cases(*window(rows), seed=0, exclude_history=exclude).target]  # type: ignore[misc]
        for exclude in (True, False)
    }
    assert asked == {True: [102], False: [100, 101, 102]}


def test_thresholds_of_behaviours_hold_on_both_sides() -> None:
    rows: list[Event] = [(0, 100, 0, 1), (0, 101, 1, 3), (0, 102, 7, 1), (0, 103, 8, 3)]
    cases = seq2item_cases(*window(rows), min_positive=2, seed=0)  # type: ignore[misc]
    assert cases.target.tolist() == [3]
    assert cases.query[0, :2].tolist() == [1, -1]


def test_users_without_history_and_catalogues_that_differ() -> None:
    stranger: list[Event] = [(9, 100, 7, 1)]
    known: list[Event] = [(0, 101, 1, 1)]
    assert len(seq2item_cases(make_log(known, ITEMS), make_log(stranger, ITEMS), seed=0)) == 0
    with pytest.raises(ValueError, match="same items"):
        seq2item_cases(make_log(known, ITEMS), make_log(stranger, ITEMS[:5]), seed=0)


def test_ids_of_text_and_choosing_cases() -> None:
    names = [f"item-{item}" for item in ITEMS]
    rows: list[Event] = [("ann", name, at, 1) for at, name in enumerate(names)]
    cases = seq2item_cases(make_log(rows, names), make_log(rows[8:], names), seed=0)
    chosen = cases.take(np.array([2, 0]))
    assert chosen.item_ids[chosen.target].tolist() == ["item-110", "item-108"]
    assert [excluded(chosen, at) for at in range(2)] == [set(range(10)), set(range(8))]
    assert np.array_equal(chosen.query_time, chosen.query.clip(min=0))  # item n at n
