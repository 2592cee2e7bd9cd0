"""Match features: values by hand, the strictly-before rule, and independence of the block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.match import COLUMNS, MatchFeatures
from recdistill.features.space import Space
from recdistill.features.timeline import Timeline

DAY = 86_400_000_000
AXES = np.array([[1, 0], [0, 1], [3, 4], [0, 0]], dtype=np.float32)  # item 3 is absent from the table below


def _space() -> Space:
    return Space.of(EmbeddingTable(pd.Index(["a", "b", "c"]), AXES[:3]), pd.Index(["a", "b", "c", "d"]), centre=False)


def _match(
    history: list[tuple[int, int, int]], *, last: int = 10, top_k: int = 2, block: int = 1 << 20
) -> MatchFeatures:
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*history, strict=True))
    return MatchFeatures(
        _space(), user=user, item=item, time=time, users=3, last=last, top_k=top_k, half_life_days=1.0, block=block
    )


def _ask(match: MatchFeatures, *events: tuple[int, int, int]) -> np.ndarray:
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    return match(user, item, time)


def test_values_by_hand() -> None:
    """Cosines of c = (.6, .8) to a, b, c are .6, .8, 1; half-life one day."""
    match = _match([(0, 0, 0 * DAY), (0, 1, 1 * DAY), (0, 2, 2 * DAY)])
    mean, top, topk, decayed, items = _ask(match, (0, 2, 3 * DAY))[0]
    assert mean == pytest.approx((0.6 + 0.8 + 1.0) / 3)
    assert top == pytest.approx(1.0)
    assert topk == pytest.approx((0.8 + 1.0) / 2)
    assert decayed == pytest.approx((0.6 / 8 + 0.8 / 4 + 1.0 / 2) / (1 / 8 + 1 / 4 + 1 / 2))
    assert items == 3
    assert COLUMNS == ("match_mean", "match_max", "match_topk", "match_decayed", "match_items")


def test_equal_time_is_not_history() -> None:
    match = _match([(0, 0, 5), (0, 1, 7), (0, 2, 7)])
    at, after = _ask(match, (0, 0, 7), (0, 0, 8))
    assert at[-1] == 1
    assert at[0] == pytest.approx(1.0)
    assert after[-1] == 3


def test_other_users_and_absent_items_do_not_count() -> None:
    match = _match([(0, 0, 1), (1, 1, 1), (0, 3, 1)])
    known, stranger, unknown_item = _ask(match, (0, 0, 9), (2, 0, 9), (0, 3, 9))
    assert known[-1] == 1
    for row in (stranger, unknown_item):
        assert np.isnan(row[:-1]).all()
        assert row[-1] == 0


def test_history_is_capped_at_the_newest() -> None:
    match = _match([(0, 0, 1), (0, 1, 2), (0, 1, 3)], last=2)
    row = _ask(match, (0, 0, 9))[0]
    assert row[-1] == 2
    assert row[1] == pytest.approx(0.0)  # the like of 'a' itself is older than the two newest


def test_fewer_than_top_k_average_what_there_is() -> None:
    assert _ask(_match([(0, 0, 1)], top_k=5), (0, 2, 2))[0][2] == pytest.approx(0.6)


def test_weights_of_a_very_old_history_do_not_underflow() -> None:
    row = _ask(_match([(0, 0, 0), (0, 1, DAY)]), (0, 2, 20_000 * DAY))[0]
    assert row[3] == pytest.approx((0.6 / 2 + 0.8) / 1.5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_agrees_with_a_plain_loop_whatever_the_block(
    history: list[tuple[int, int, int]], events: list[tuple[int, int, int]], last: int
) -> None:
    whole = _ask(_match(history, last=last), *events)
    np.testing.assert_array_equal(whole, _ask(_match(history, last=last, block=1), *events))
    space = _space()
    ordered = sorted((event for event in history if space.present[event[1]]), key=lambda event: event[2])
    for (user, item, time), row in zip(events, whole, strict=True):
        before = [event for event in ordered if event[0] == user and event[2] < time][-last:]
        if not before or not space.present[item]:
            assert row[-1] == 0
            continue
        cosine = np.array([space.vectors[item] @ space.vectors[event[1]] for event in before])
        weight = np.array([2.0 ** ((event[2] - time) / DAY) for event in before])
        best = np.sort(cosine)[::-1][:2]
        expected = [cosine.mean(), cosine.max(), best.mean(), (weight * cosine).sum() / weight.sum(), len(before)]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_centring_takes_the_common_direction_off() -> None:
    table = EmbeddingTable(pd.Index([1, 2]), np.array([[10, 1], [10, -1]], dtype=np.float32))
    plain, centred = (Space.of(table, pd.Index([1, 2, 3]), centre=centre) for centre in (False, True))
    assert plain.vectors[0] @ plain.vectors[1] > 0.9
    assert centred.vectors[0] @ centred.vectors[1] == pytest.approx(-1.0)
    assert not centred.present[2]
    assert not centred.vectors[2].any()


def test_timeline_finds_what_is_before() -> None:
    timeline = Timeline(group=np.array([1, 0, 1, 1]), time=np.array([5, 3, 2, 5]), groups=3)
    begin, end = timeline.before(np.array([1, 1, 1, 0, 2]), np.array([5, 6, 2, 9, 9]))
    assert [timeline.order[b:e].tolist() for b, e in zip(begin, end, strict=True)] == [[2], [2, 0, 3], [], [1], []]
