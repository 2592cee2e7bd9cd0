"""Match features in a batch: values by hand, the strictly-before rule, and independence of the blocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_match import DAY, Few, Positive, random_few

from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.config import MatchConfig
from recdistill.features.match import MatchFeatures
from recdistill.features.match_basis import MatchBasis
from recdistill.features.space import Space
from recdistill.features.tiles import Tiles
from recdistill.features.timeline import Timeline

# Items a, b, c, and d that has no vector; b and c are of one interest, and their semantic IDs begin alike.
FEW = Few(
    vectors=np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], dtype=np.float32),
    interest=np.array([0, 1, 1, -1]),
    codes=np.array([[0, 0], [1, 0], [1, 1], [-1, -1]]),
)
A, B, C, D = range(4)


def _ask(match: MatchFeatures, *events: tuple[int, int, int]) -> pd.DataFrame:
    user, item, time = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    return pd.DataFrame(match(user, item, time), columns=match.columns)


def test_values_by_hand() -> None:
    """Cosines of c = (.6, .8) to a, b, c are .6, .8, 1; half-life one day; a is one interest, b and c another."""
    match = FEW.batch([Positive(0, A, 0), Positive(0, B, DAY), Positive(0, C, 2 * DAY)])
    row = _ask(match, (0, C, 3 * DAY)).iloc[0]
    assert row.match_mean == pytest.approx((0.6 + 0.8 + 1.0) / 3)
    assert row.match_max == pytest.approx(1.0)
    assert row.match_topk == pytest.approx((0.8 + 1.0) / 2)
    assert row.match_decayed == pytest.approx((0.6 / 8 + 0.8 / 4 + 1.0 / 2) / (1 / 8 + 1 / 4 + 1 / 2))
    assert row.match_interest == pytest.approx((0.8 + 1.0) / 2)
    assert row.match_interest_share == pytest.approx(2 / 3)
    assert row.match_sid_1 == pytest.approx(2 / 3)
    assert row.match_sid_2 == pytest.approx(1 / 3)
    assert row.match_items == 3
    assert len(row) == 9


def test_of_equally_near_interests_the_larger_counts() -> None:
    few = dataclasses.replace(FEW, interest=np.array([1, 0, 0, -1]), vectors=FEW.vectors[[A, A, A, D]])
    match = few.batch([Positive(0, A, 1), Positive(0, B, 2), Positive(0, C, 3)])
    assert _ask(match, (0, A, 9)).match_interest_share[0] == pytest.approx(2 / 3)


def test_equal_time_is_not_history() -> None:
    match = FEW.batch([Positive(0, A, 5), Positive(0, B, 7), Positive(0, C, 7)])
    at, after = _ask(match, (0, A, 7), (0, A, 8)).itertuples()
    assert at.match_items == 1
    assert at.match_mean == pytest.approx(1.0)
    assert after.match_items == 3


def test_other_users_and_absent_items_do_not_count() -> None:
    match = FEW.batch([Positive(0, A, 1), Positive(1, B, 1), Positive(0, D, 1)])
    rows = _ask(match, (0, A, 9), (2, A, 9), (0, D, 9), (-1, A, 9), (0, -1, 9))
    assert rows.match_items.tolist() == [1, 0, 0, 0, 0]
    assert rows.iloc[0].notna().all()
    assert rows.iloc[1:].drop(columns="match_items").isna().all().all()


def test_a_candidate_without_a_semantic_id_overlaps_with_nothing_known() -> None:
    few = dataclasses.replace(FEW, codes=np.array([[0, 0], [1, 0], [-1, -1], [-1, -1]]))
    row = _ask(few.batch([Positive(0, C, 1), Positive(0, B, 1)]), (0, C, 9), (0, B, 9))
    assert row.match_sid_1.isna().tolist() == [True, False]
    assert row.match_sid_1[1] == pytest.approx(1 / 2)
    assert row.match_mean.notna().all()


def test_history_is_capped_at_the_newest_and_ties_go_by_the_items_row() -> None:
    few = dataclasses.replace(FEW, last=2)
    row = _ask(few.batch([Positive(0, A, 1), Positive(0, B, 2), Positive(0, B, 3)]), (0, A, 9)).iloc[0]
    assert row.match_items == 2
    assert row.match_max == pytest.approx(0.0)  # the like of 'a' itself is older than the two newest
    for positives in ([A, B, C], [C, B, A]):
        tied = _ask(few.batch([Positive(0, item, 1) for item in positives]), (0, A, 9)).iloc[0]
        assert tied.match_max == pytest.approx(0.6)  # b and c


def test_fewer_than_top_k_average_what_there_is() -> None:
    few = dataclasses.replace(FEW, top_k=5)
    assert _ask(few.batch([Positive(0, A, 1)]), (0, C, 2)).match_topk[0] == pytest.approx(0.6)


def test_weights_of_a_very_old_history_do_not_underflow() -> None:
    rows = _ask(FEW.batch([Positive(0, A, 0), Positive(0, B, DAY)]), (0, C, 20_000 * DAY))
    assert rows.match_decayed[0] == pytest.approx((0.6 / 2 + 0.8) / 1.5)


def test_no_history_at_all() -> None:
    rows = _ask(FEW.batch([]), (0, C, 1))
    assert rows.match_items.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.builds(Positive, st.integers(0, 2), st.integers(0, 11), st.integers(0, 6)), max_size=60),
    st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 11), st.integers(0, 8)), min_size=1, max_size=40),
    st.integers(1, 6),
)
def test_agrees_with_a_plain_loop_whatever_the_block(
    seed: int, positives: list[Positive], events: list[tuple[int, int, int]], last: int
) -> None:
    few = random_few(seed, items=12, last=last)
    whole = _ask(few.batch(positives), *events)
    apart = _ask(few.batch(positives, block=1), *events)
    exact = whole.columns.drop("match_decayed")
    pd.testing.assert_frame_equal(whole[exact], apart[exact], check_exact=True)
    pd.testing.assert_frame_equal(whole, apart, rtol=0, atol=1e-7)
    expected = [few.plainly(positives, user=user, item=item, time=time) for user, item, time in events]
    np.testing.assert_allclose(whole.to_numpy(), expected, rtol=0, atol=1e-6)


def test_a_long_log_with_many_events_of_a_user_agrees_too() -> None:
    """Windows slide, tiles hold several events, and blocks several tiles."""
    rng = np.random.default_rng(0)
    few = random_few(1, last=12, top_k=3)
    positives = [
        Positive(*row)
        for row in np.c_[rng.integers(3, size=400), rng.integers(40, size=400), rng.integers(300, size=400)]
    ]
    events = [
        tuple(row) for row in np.c_[rng.integers(3, size=500), rng.integers(40, size=500), rng.integers(300, size=500)]
    ]
    expected = [few.plainly(positives, user=user, item=item, time=time) for user, item, time in events]
    for block in (1 << 14, 1 << 20):
        found = _ask(few.batch(positives, block=block), *events).to_numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_tiles_hold_every_event_once_and_little_more_than_its_history() -> None:
    rng = np.random.default_rng(0)
    user = rng.integers(5, size=300)
    end = user * 100 + rng.integers(1, 100, size=300)
    begin = np.maximum(end - 20, user * 100)
    tiles = Tiles.of(user=user, begin=begin, end=end, stride=10)
    seen = []
    for chosen in tiles.blocks(block=50_000, row_bytes=100, event_bytes=100, pair_bytes=80):
        rows, events = tiles.slots(chosen)
        assert rows.shape[1] % 16 == 0 and rows.shape[1] <= 32 and events.shape[1] <= 16
        assert len(chosen) == 1 or rows.size * 100 + events.size * 100 + rows.size * events.shape[1] * 80 <= 50_000
        for of, asked in zip(rows, events, strict=True):
            mine = asked[asked >= 0]
            assert len(set(user[mine])) == 1
            assert of[0] <= begin[mine].min() and end[mine].max() <= of[-1] + 1
            seen += mine.tolist()
    assert sorted(seen) == list(range(300))
    assert len(tiles.low) < 100  # so that events do share


def test_centring_takes_the_common_direction_off() -> None:
    table = EmbeddingTable(pd.Index([1, 2]), np.array([[10, 1], [10, -1]], dtype=np.float32))
    plain, centred = (Space.of(table, pd.Index([1, 2, 3]), centre=centre) for centre in (False, True))
    assert plain.vectors[0] @ plain.vectors[1] > 0.9
    assert centred.vectors[0] @ centred.vectors[1] == pytest.approx(-1.0)
    assert not centred.present[2]
    assert not centred.vectors[2].any()
    np.testing.assert_array_equal(Space.at(table, pd.Index([2]), mean=centred.mean).vectors, centred.vectors[[1]])


def test_interests_are_what_was_planted_and_new_items_join_them(tmp_path) -> None:
    rng = np.random.default_rng(0)
    planted = np.repeat(np.arange(4), 25)
    vectors = (np.eye(4)[planted] + 0.1 * rng.normal(size=(100, 4))).astype(np.float32)
    table = EmbeddingTable(pd.Index(np.arange(100)), vectors)
    space = Space.of(table, table.ids.append(pd.Index([999])), centre=True)
    basis = MatchBasis.fit(space, MatchConfig(interests=4), seed=0)
    found = basis.interests(space)
    assert found[-1] == -1
    assert len(set(zip(planted, found[:-1], strict=True))) == len(set(found[:-1])) == 4
    basis.save(tmp_path / "basis.safetensors")
    again = MatchBasis.load(tmp_path / "basis.safetensors")
    assert again.config == basis.config
    new = Space.at(EmbeddingTable(pd.Index(["new"]), vectors[:1] * 3), pd.Index(["new"]), mean=again.mean)
    assert again.interests(new).tolist() == found[:1].tolist()


def test_few_items_have_fewer_interests_than_asked_for() -> None:
    table = EmbeddingTable(pd.Index(np.arange(25)), np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32))
    for ids, expected in ((table.ids, 2), (pd.Index([-1]), 1)):
        basis = MatchBasis.fit(Space.of(table, ids, centre=True), MatchConfig(), seed=0)
        assert len(basis.centroids) == expected


def test_timeline_finds_what_is_before() -> None:
    timeline = Timeline(group=np.array([1, 0, 1, 1]), time=np.array([5, 3, 2, 5]), groups=3)
    begin, end = timeline.before(np.array([1, 1, 1, 0, 2]), np.array([5, 6, 2, 9, 9]))
    assert [timeline.order[b:e].tolist() for b, e in zip(begin, end, strict=True)] == [[2], [2, 0, 3], [], [1], []]
    tied = Timeline(group=np.array([1, 0, 1, 1]), time=np.array([5, 3, 2, 5]), groups=3, ties=np.array([9, 0, 0, 4]))
    assert tied.order.tolist() == [1, 2, 3, 0]
