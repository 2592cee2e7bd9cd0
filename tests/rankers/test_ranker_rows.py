"""Labels, negatives, counters and tags of the ranker's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from downstream_helpers import DAY, START, interactions

from recdistill.contracts.log import Log
from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.rankers.counts import Standardiser, base_features
from recdistill.rankers.rows import Rows, cold_items, make_rows, negatives_of
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


def test_sampled_negatives_are_new_to_the_user_and_drawn_once(tmp_path: Path) -> None:
    events = [(user, item, user + item / 50, True) for user in range(3) for item in range(user, user + 8)]
    log = _log(tmp_path, events)
    assert negatives_of(log, min_share=0.05) == "sampled"
    rows = make_rows(log, history=log, negatives="sampled", per_positive=1, seed=0)
    seen = {(user, item) for user, item, _, _ in events}
    sampled = list(zip(rows.user[~rows.logged].tolist(), rows.item[~rows.logged].tolist(), strict=True))
    assert sampled
    assert not seen & set(sampled)
    assert len(set(sampled)) == len(sampled)
    assert not rows.label[~rows.logged].any()
    assert set(rows.time[~rows.logged]) <= set(log.time)
    again = make_rows(log, history=log, negatives="sampled", per_positive=1, seed=0)
    np.testing.assert_array_equal(rows.item, again.item)
    assert np.all(np.diff(rows.user) >= 0)


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
