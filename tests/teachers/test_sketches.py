"""Counting streams in little memory: bounds, exactness where there is room, ageing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.retrieval.hashing import mix
from recdistill.teachers.sketches import CountMin, Distinct


def add(sketch: CountMin, ids: list[int]) -> list[int]:
    """Count ids, and give the counts of the distinct ones, ascending, from before."""
    distinct, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    return sketch.add(mix(0, distinct), torch.from_numpy(counts)).tolist()


def test_with_room_counts_are_exact() -> None:
    sketch = CountMin(1 << 12)
    assert add(sketch, [7, 7, 7, 2]) == [0, 0]
    assert add(sketch, [2, 7, 9]) == [1, 3, 0]
    assert add(sketch, [2, 7, 9]) == [2, 4, 1]
    assert int(sketch.events) == 10


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=20), max_size=8), st.integers(8, 30))
def test_counts_are_never_too_low(batches: list[list[int]], width: int) -> None:
    sketch, true = CountMin(width), Counter[int]()
    for batch in batches:
        estimates = add(sketch, batch)
        assert all(estimate >= true[of] for estimate, of in zip(estimates, sorted(set(batch)), strict=True))
        true.update(batch)


def test_conservative_update_keeps_the_counts_of_rare_ids_low() -> None:
    """2,000 ids once each in 4 rows of 500 cells: raising every cell would give each about 4."""
    sketch = CountMin(500)
    for start in range(0, 2_000, 100):
        add(sketch, list(range(start, start + 100)))
    estimates = add(sketch, list(range(2_000)))
    assert min(estimates) >= 1
    assert np.mean(estimates) < 3


def test_counts_halve_after_sixteen_events_a_cell() -> None:
    sketch = CountMin(4)
    add(sketch, [1] * 63)
    assert not sketch.halve_when_full()
    add(sketch, [1])
    assert sketch.halve_when_full()
    assert not sketch.halve_when_full()
    assert add(sketch, [1]) == [32]


@pytest.mark.parametrize("count", [0, 1, 1_000, 30_000, 300_000])
def test_distinct_ids_are_counted_to_a_few_percent(count: int) -> None:
    distinct = Distinct()
    hashes = mix(0, np.arange(count))
    for part in np.array_split(hashes, 7):
        distinct.add(part)
    once = distinct.estimate()
    assert once == pytest.approx(count, rel=0.025)  # three standard errors
    distinct.add(hashes[::-1].copy())
    assert distinct.estimate() == once


def test_distinct_takes_the_hashes_at_both_ends() -> None:
    distinct = Distinct()
    distinct.add(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert sorted(distinct.registers[[0, -1]].tolist()) == [1, 51]  # 50 zeros in a row, and none
    assert distinct.estimate() == 2
