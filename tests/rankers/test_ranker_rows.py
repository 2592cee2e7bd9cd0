"""Labels, negatives, counters and tags of the ranker's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from downstream_helpers import DAY, START, interactions

from recdistill.contracts.log import Log
from recdistill.contracts.negatives import negatives_of
from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.rankers.counts import Standardiser, base_features
from recdistill.rankers.meetings import PastItems
from recdistill.rankers.rows import Rows, cold_items, make_rows
from recdistill.rankers.tags import Tags


def _log(tmp_path: Path, rows: list[tuple[int, int, float, bool]], *, value: list[float] | None = None) -> Log:
    user, item, day, positive = (np.array(column) for column in zip(*rows, strict=True))
    time = START + (day * DAY).astype(np.int64)
    table = interactions(user, item, time, positive, value=None if value is None else np.array(value))
    write_table(table, tmp_path / "log.parquet")
    return Log.read([tmp_path / "log.parquet"], item_ids=pd.Index([f"i{n:04d}" for n in range(12)]))


def _rows(user: list[int], item: list[int], day: list[float]) -> Rows:
    n = len(user)
    return Rows(
        np.array(user, dtype=np.int32),
        np.array(item, dtype=np.int32),
        START + (np.array(day) * DAY).astype(np.int64),
        np.ones(n, dtype=bool),
        np.ones(n, dtype=np.int64),
        np.ones(n, dtype=bool),
    )


def test_logged_negatives_are_the_events_without_positive_behaviour(tmp_path: Path) -> None:
    log = _log(tmp_path, [(0, 0, 1, True), (0, 1, 2, False), (1, 0, 3, False)])
    assert negatives_of(log, min_share=0.05) == "logged"
    rows = make_rows(log, history=log, negatives="logged", per_positive=4, seed=0)
    assert rows.label.tolist() == [True, False, False]
    assert rows.logged.all()


def test_sampled_negatives_are_new_to_the_user_and_drawn_once_a_moment(tmp_path: Path) -> None:
    events = [(user, item, user + item // 2, True) for user in range(3) for item in range(user, user + 8)]
    log = _log(tmp_path, events)
    assert negatives_of(log, min_share=0.05) == "sampled"
    rows = make_rows(log, history=log, negatives="sampled", per_positive=1, seed=0)
    seen = {(user, item) for user, item, _, _ in events}
    negative = ~rows.logged
    sampled = list(zip(*(part[negative].tolist() for part in (rows.user, rows.item, rows.time)), strict=True))
    assert sampled
    assert not seen & {(user, item) for user, item, _ in sampled}
    assert len(set(sampled)) == len(sampled)
    assert not rows.label[negative].any()
    assert set(rows.time[negative]) <= set(log.time)
    again = make_rows(log, history=log, negatives="sampled", per_positive=1, seed=0)
    np.testing.assert_array_equal(rows.item, again.item)
    assert np.all(np.diff(rows.user) >= 0)


def _repeats(tmp_path: Path, *, share: float) -> Log:
    """Forty users over twenty days, who return to an item of theirs with probability ``share``."""
    rng = np.random.default_rng(0)
    events = []
    for user in range(40):
        own: list[int] = []
        for day in np.sort(rng.uniform(0, 20, size=10)):
            new = np.setdiff1d(np.arange(12), own)
            again = bool(own) and (rng.random() < share or len(own) >= 7)
            item = int(rng.choice(own if again else new))
            own = sorted({*own, item})
            if share or not again:
                events.append((user, item, float(day), True))
    return _log(tmp_path, events)


def _window(log: Log, begin: float, end: float) -> Log:
    return log.take((log.time >= START + int(begin * DAY)) & (log.time < START + int(end * DAY)))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_having_met_an_item_does_not_tell_sampled_negatives_apart(tmp_path: Path, share: float) -> None:
    """With repeated consumption or without: as many of the negatives as of the positives were met before."""
    log = _repeats(tmp_path, share=share)
    rows = make_rows(_window(log, 10, 20), history=log, negatives="sampled", per_positive=2, seed=0)
    met = base_features(rows, history=log, training=_window(log, 0, 10), smoothing=1.0)[:, 10] > 0
    assert rows.label.sum() > 30
    assert (~rows.label).sum() == 2 * rows.label.sum()
    assert met[~rows.label].sum() == 2 * met[rows.label].sum()
    assert met[rows.label].any() == (share > 0)
    for user, item, time in zip(*(part[~rows.label] for part in (rows.user, rows.item, rows.time)), strict=True):
        assert not ((log.user == user) & (log.item == item) & (log.time >= time)).any()


def test_negatives_of_a_repeated_positive_may_be_new_in_the_window_too(tmp_path: Path) -> None:
    """User 0 meets items 0 and 1 in the window and returns to 0: were 1 no negative, only older items could be."""
    log = _log(tmp_path, [(1, 4, 1.0, True), (0, 0, 2.0, True), (0, 1, 3.0, True), (0, 0, 4.0, True)])
    rows = make_rows(_window(log, 2, 5), history=log, negatives="sampled", per_positive=1, seed=0)
    found = zip(rows.user.tolist(), rows.item.tolist(), rows.time.tolist(), rows.label.tolist(), strict=True)
    assert list(found) == [(0, 0, START + 4 * DAY, True), (0, 1, START + 4 * DAY, False)]


def test_sampled_negatives_do_not_know_what_comes_after_their_window(tmp_path: Path) -> None:
    log = _repeats(tmp_path, share=0.3)
    window = _window(log, 5, 12)
    rows, blind = (
        make_rows(window, history=history, negatives="sampled", per_positive=3, seed=0)
        for history in (log, _window(log, 0, 12))
    )
    np.testing.assert_array_equal(rows.user, blind.user)
    np.testing.assert_array_equal(rows.item, blind.item)
    later = _window(log, 12, 20)
    met_later = set(zip(later.user.tolist(), later.item.tolist(), strict=True))
    assert met_later & set(zip(rows.user[~rows.label].tolist(), rows.item[~rows.label].tolist(), strict=True))


def test_a_positive_without_a_full_set_of_negatives_is_left_out(tmp_path: Path) -> None:
    """User 0 returns to item 0 and has met only item 1 beside it: one negative, not two."""
    past = [(0, 0, 1.0, True), (0, 1, 2.0, True), (1, 2, 1.0, True), (2, 3, 2.0, True)]
    log = _log(tmp_path, [*past, (0, 0, 5.0, True), (1, 1, 5.0, True), (2, 4, 5.0, True)])
    window = _window(log, 4, 6)
    one = make_rows(window, history=log, negatives="sampled", per_positive=1, seed=0)
    assert (one.item[one.user == 0].tolist(), one.label[one.user == 0].tolist()) == ([0, 1], [True, False])
    two = make_rows(window, history=log, negatives="sampled", per_positive=2, seed=0)
    assert two.user.tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(UserError, match="a window of 3 events gives no negative row"):
        make_rows(window, history=log, negatives="sampled", per_positive=3, seed=0)


def test_draws_from_the_past_follow_the_weights_of_what_was_met(tmp_path: Path) -> None:
    """Before day 4 user 0 has met items 1 (three times) and 2; user 1 is another, and item 3 comes later."""
    met = [(0, 1, 1.0, True), (0, 1, 2.0, True), (0, 1, 3.0, True), (0, 2, 2.5, True)]
    log = _log(tmp_path, [*met, (0, 3, 5.0, True), (1, 4, 1.0, True)])
    weight = np.array([9, 1, 3, 9, 9, 0, 0, 0, 0, 0, 0, 0])
    past = PastItems(log, weight=weight, user=np.array([1, 0]), time=np.full(2, START + 4 * DAY))
    drawn = np.bincount(past.draw(np.ones(4000, dtype=np.int64), np.random.default_rng(0)), minlength=12)
    assert drawn.sum() == drawn[1] + drawn[2]
    assert drawn[2] / 4000 == pytest.approx(0.75, abs=0.03)
    assert past.draw(np.array([0]), np.random.default_rng(0)).tolist() == [4]


def test_a_window_of_one_class_is_refused(tmp_path: Path) -> None:
    log = _log(tmp_path, [(0, 0, 1, False), (1, 1, 2, False)])
    with pytest.raises(UserError, match="no positive row"):
        make_rows(log, history=log, negatives="logged", per_positive=1, seed=0)


def test_counters_by_hand(tmp_path: Path) -> None:
    """Item 0: liked on day 1 (value 5), shown on day 2 (value 1), shown on day 4 by the user who is asked about."""
    log = _log(
        tmp_path, [(0, 0, 1, True), (1, 0, 2, False), (1, 1, 3, True), (2, 0, 4, False)], value=[5.0, 1.0, 4.0, 2.0]
    )
    first, second = base_features(_rows([1, 1], [0, 0], [2, 3.5]), history=log, training=log, smoothing=2.0)
    # Strictly before day 2: of the item the first event only; of the user nothing.
    assert first[:4] == pytest.approx([np.log(2), np.log(2), (1 + 2 * 0.5) / 3, (5 - 3) / 3])
    assert first[4] == pytest.approx(np.log1p(1.0))
    assert first[5:9] == pytest.approx([0, 0, 0.5, 0])
    assert np.isnan(first[9])
    # Before day 3.5: both item events; of the user days 2 and 3.
    assert second[:4] == pytest.approx([np.log(3), np.log(2), (1 + 1) / 4, (5 + 1 - 6) / 4])
    assert second[5:9] == pytest.approx([np.log(3), np.log(2), (1 + 1) / 4, (1 + 4 - 6) / 4])
    assert second[9] == pytest.approx(np.log1p(0.5))
    # User 1 has met item 0 on day 2: not strictly before day 2, and not with pleasure.
    assert first[10:].tolist() == [0, 0]
    assert second[10:] == pytest.approx([np.log(2), 0])
    liked, stranger = base_features(_rows([0, 2], [0, 5], [1.5, 9]), history=log, training=log, smoothing=2.0)
    assert liked[10:] == pytest.approx([np.log(2), np.log(2)])
    assert stranger[10:].tolist() == [0, 0]


def test_items_counters_see_training_only(tmp_path: Path) -> None:
    log = _log(tmp_path, [(0, 0, 1, True), (0, 1, 2, True)])
    features = base_features(_rows([0], [1], [9]), history=log, training=log.take(np.array([0])), smoothing=1.0)[0]
    assert features[0] == 0
    assert np.isnan(features[4])
    assert features[5] == pytest.approx(np.log(3))


def test_live_counters_of_items_go_on_after_training_up_to_the_row(tmp_path: Path) -> None:
    """Item 1 is new to training; of its three events two lie strictly before day 9, one of them liked."""
    log = _log(tmp_path, [(0, 0, 1, True), (0, 1, 2, True), (1, 1, 3, False), (2, 1, 9, True)])
    training = log.take(np.array([0]))
    features = base_features(_rows([0], [1], [9]), history=log, training=training, smoothing=1.0, live=True)[0]
    assert features[:3] == pytest.approx([np.log(3), np.log(2), (1 + 1) / 3])
    assert features[4] == pytest.approx(np.log1p(7))


def test_smoothing_does_not_know_the_rows_own_labels(tmp_path: Path) -> None:
    """Whatever the last two days hold, a row of day 3 without a past has the training's rate, and no value."""
    past = [(0, 0, 1.0, True), (0, 1, 2.0, False), (0, 2, 2.5, False)]
    made = []
    for liked in (True, False):
        log = _log(tmp_path, [*past, (1, 0, 3.0, liked), (1, 1, 4.0, liked)], value=[5, 1, 3, 9 * liked, 9 * liked])
        rows = _rows([0, 1], [0, 0], [3, 3])
        made.append(base_features(rows, history=log, training=log.take(log.user == 0), smoothing=2.0))
    np.testing.assert_array_equal(made[0], made[1])
    assert made[0][0, 7:9] == pytest.approx([(1 + 2 / 3) / 5, 0])
    assert made[0][1, 7:9] == pytest.approx([1 / 3, 0])


def test_cold_items_have_no_training_event(tmp_path: Path) -> None:
    log = _log(tmp_path, [(0, 3, 1, True), (0, 5, 2, False)])
    assert np.flatnonzero(~cold_items(log, log.item_ids)).tolist() == [3, 5]


def test_standardiser_scales_by_block_and_marks_gaps() -> None:
    training = np.array([[1, 10, 0, np.nan], [3, 30, 1, 2], [5, 50, -1, 4]], dtype=np.float32)
    scaled = Standardiser(training, blocks=[1, 2, 1])(training)
    assert scaled.shape == (3, 5)
    np.testing.assert_allclose(scaled[:, 0], [-1.2247, 0, 1.2247], atol=1e-4)
    both = np.sqrt(training[:, 1].var() + training[:, 2].var())
    np.testing.assert_allclose(scaled[:, 2], np.array([0, 1, -1]) / both, atol=1e-5)
    np.testing.assert_allclose(scaled[:, 3], [0, -1, 1], atol=1e-5)
    np.testing.assert_array_equal(scaled[:, 4], [1, 0, 0])
    outlier = Standardiser(training, blocks=[1, 2, 1])(np.full((1, 4), 1e9, dtype=np.float32))
    assert outlier[0, :4].max() == 5


def test_standardiser_of_a_constant_column_is_zero() -> None:
    same = np.full((4, 1), 7.0, dtype=np.float32)
    assert not Standardiser(same, blocks=[1])(same).any()


def test_tags(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": ["i0002", "i0000", "i0001"],
            "tags_genre": pa.array([["war", "drama"], ["drama"], None], pa.list_(pa.string())),
            "tags_cast": pa.array([["drama"], [], ["kim", "kim"]], pa.list_(pa.string())),
        }
    )
    write_table(table, tmp_path / "items.parquet")
    tags = Tags.read(tmp_path / "items.parquet", item_ids=pd.Index(["i0000", "i0001", "i0002"]), most=3)
    bags = [tags.values[tags.offsets[at] : tags.offsets[at + 1]].tolist() for at in range(3)]
    # Most frequent first (genre=drama), then by name; genre=war falls out, and kim counts once.
    assert tags.size == 3
    assert bags == [[0], [2], [0, 1]]
    assert tags.category().tolist() == [0, 2, 0]
    with pytest.raises(UserError, match="1 items of the fold are missing"):
        Tags.read(tmp_path / "items.parquet", item_ids=pd.Index(["i0000", "i0009"]), most=3)


def test_items_without_tags(tmp_path: Path) -> None:
    write_table(pa.table({"item_id": ["a", "b"]}), tmp_path / "items.parquet")
    tags = Tags.read(tmp_path / "items.parquet", item_ids=pd.Index(["a", "b"]), most=3)
    assert tags.size == 0
    assert tags.category().tolist() == [0, 0]
