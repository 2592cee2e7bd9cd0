"""Splits: half-open windows, user-disjoint item-cold folds, random order on ties, and leaks that are caught."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.split import SplitConfig, assign, split
from recdistill.split.assign import HeldOut, by_fold, by_time, groups, time_cuts
from recdistill.split.leakage import check


def write_log(
    folder: Path, *, users: int = 60, items: int = 40, events: int = 1500, seed: int = 0, ties: bool = False
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 3 if ties else 10**7, events)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, users, events)],
            "item_id": [f"i{i}" for i in rng.integers(0, items, events)],
            "timestamp": pd.to_datetime(seconds, unit="s", utc=True).astype("datetime64[us, UTC]"),
            "behaviours": [["like"] if flag else [] for flag in rng.random(events) < 0.7],
        }
    )
    write_table(frame, folder / "interactions.parquet")
    write_table(pd.DataFrame({"item_id": [f"i{i}" for i in range(items)]}), folder / "items.parquet")
    return frame


def test_cuts_are_half_open():
    part = by_time(np.array([9, 10, 19, 20, 21]), (10, 20))
    assert part.tolist() == [0, 1, 1, 2, 2]


def test_time_split_leaves_nothing_behind_and_nothing_ahead(tmp_path):
    frame = write_log(tmp_path / "data")
    split(SplitConfig(), data=tmp_path / "data", out=tmp_path / "split")
    fold = Fold(tmp_path / "split" / "time")
    parts = {name: pd.read_parquet(fold.root / f"{name}.parquet") for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(frame)
    assert parts["train"].timestamp.max() < parts["validation"].timestamp.min()
    assert parts["validation"].timestamp.max() < parts["test"].timestamp.min()
    cut = pd.Timestamp(json.loads((fold.root / "split.json").read_text())["test_from"])
    assert parts["test"].timestamp.min() >= cut
    # What teachers and mining read never reaches the window that is asked about.
    for fit in FITS:
        assert fold.training(fit).time.max() < fold.targets(fit).time.min()
        assert not set(fold.cold(fit)) & set(fold.training(fit).item_ids.take(np.unique(fold.training(fit).item)))


def test_folds_are_disjoint_in_users_and_cold_in_items_and_test_every_user_once(tmp_path):
    frame = write_log(tmp_path / "data")
    config = SplitConfig(protocol="folds", folds=3)
    split(config, data=tmp_path / "data", out=tmp_path / "split")
    tested: list[str] = []
    for name in config.fold_names():
        fold = Fold(tmp_path / "split" / name)
        test = pd.read_parquet(fold.root / "test.parquet")
        tested += test.user_id.unique().tolist()
        cold = set(fold.cold("final"))
        assert cold and set(test.item_id) & cold
        for fit in FITS:
            training = fold.training(fit)
            trained_users = set(training.user_ids.take(np.unique(training.user)))
            trained_items = set(training.item_ids.take(np.unique(training.item)))
            target = fold.targets(fit)
            assert not trained_users & set(target.user_ids.take(np.unique(target.user)))
            assert not trained_items & set(fold.cold(fit))
        parts = [
            pd.read_parquet(fold.root / f"{part}.parquet")
            for part in ("train", "validation", "test", "validation_judge", "test_judge")
        ]
        assert sum(map(len, parts)) == len(frame)
    assert sorted(tested) == sorted(frame.user_id.unique())


def test_which_seeds_and_folds_are_run():
    every = SplitConfig(protocol="folds", folds=2)
    assert every.runs([7, 3]) == ((7, "fold-0"), (7, "fold-1"), (3, "fold-0"), (3, "fold-1"))
    one = SplitConfig(protocol="folds", folds=2, one_fold_a_seed=True)
    assert one.runs([7, 3, 5]) == ((7, "fold-0"), (3, "fold-1"), (5, "fold-0"))
    assert one.fold_names() == every.fold_names()  # all are written
    assert SplitConfig().runs([7, 3]) == ((7, "time"), (3, "time"))
    with pytest.raises(ValueError, match="one_fold_a_seed is of protocol 'folds'"):
        SplitConfig(one_fold_a_seed=True)


def test_order_among_equal_times_does_not_follow_the_file(tmp_path):
    frame = write_log(tmp_path / "data", ties=True, users=10, events=2000)
    frame = frame.sort_values(["user_id", "timestamp", "item_id"]).reset_index(drop=True)
    write_table(frame, tmp_path / "data" / "interactions.parquet")
    config = SplitConfig(protocol="folds", folds=2)
    split(config, data=tmp_path / "data", out=tmp_path / "sorted")
    write_table(frame.sample(frac=1, random_state=1), tmp_path / "data" / "interactions.parquet")
    split(config, data=tmp_path / "data", out=tmp_path / "shuffled")
    for name in config.fold_names():
        one, two = (pd.read_parquet(tmp_path / way / name / "train.parquet") for way in ("sorted", "shuffled"))
        pd.testing.assert_frame_equal(
            one[["user_id", "item_id", "timestamp"]], two[["user_id", "item_id", "timestamp"]]
        )
        tied = one.groupby(["user_id", "timestamp"]).item_id.apply(list)
        assert any(items != sorted(items) for items in tied if len(items) > 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_every_interaction_is_in_exactly_the_part_its_user_and_item_say(parts, seed):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 20, 300), rng.integers(0, 15, 300)
    user_group, item_group = groups(20, parts=parts, rng=rng), groups(15, parts=parts, rng=rng)
    part = by_fold(user, item, HeldOut(user_group == 0, item_group == 0, user_group == 1, item_group == 1))
    assert ((part == 2) == (user_group[user] == 0)).all()
    train = part == 0
    assert (user_group[user[train]] > 1).all() and (item_group[item[train]] > 1).all()


def test_groups_have_equal_sizes():
    sizes = np.bincount(groups(23, parts=5, rng=np.random.default_rng(0)))
    assert sorted(sizes) == [4, 4, 5, 5, 5]


def test_one_time_for_all_is_refused():
    with pytest.raises(UserError, match="do not spread"):
        time_cuts(np.full(100, 7), validation=0.2, test=0.2)


def test_a_leak_is_caught():
    part = np.array([0, 0, 1, 2], dtype=np.int8)
    with pytest.raises(UserError, match="training ends before validation begins"):
        check(
            (4, 9),
            part=part,
            time=np.array([1, 5, 4, 9]),
            user=np.zeros(4, int),
            item=np.zeros(4, int),
            roles=np.array(["warm"]),
        )


def folded(seed: int = 0) -> tuple[HeldOut, dict[str, np.ndarray]]:
    """A sound fold of a random log, as the leakage check takes it."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 30, 900), rng.integers(0, 20, 900)
    user_group, item_group = groups(30, parts=4, rng=rng), groups(20, parts=4, rng=rng)
    held = HeldOut(user_group == 0, item_group == 0, user_group == 1, item_group == 1)
    return held, {"part": by_fold(user, item, held), "time": np.arange(900), "user": user, "item": item}


def checked(held: HeldOut, columns: dict[str, np.ndarray]) -> dict[str, bool]:
    roles = assign.item_roles(columns["item"], columns["part"], len(held.test_item))
    return check(held, **columns, roles=roles)["checks"]


def test_a_sound_fold_passes_all_checks():
    held, columns = folded()
    checks = checked(held, columns)
    assert len(checks) == 6 and all(checks.values())


@pytest.mark.parametrize(
    ("taken", "broken"),
    [
        ("test_judge", "no test-cold item before the test window; no cold item in training"),
        ("validation_judge", "no cold item in training"),
        ("test", "test users are not in training"),
        ("validation", "validation users are not in training"),
    ],
)
def test_held_out_rows_moved_into_training_are_caught(taken, broken):
    # Roles are read off the parts: the corrupted fold calls those items warm, and must be caught all the same.
    held, columns = folded()
    moved = columns["part"] == assign.PARTS.index(f"{taken}.parquet")
    if taken.endswith("judge"):  # of training users alone: no check of users sees them
        moved &= ~held.validation_user[columns["user"]]
    columns["part"][moved] = 0
    if taken in ("test", "validation"):  # an empty window is another error
        at = np.flatnonzero((held.test_user if taken == "test" else held.validation_user)[columns["user"]])[0]
        columns["part"][at] = assign.PARTS.index(f"{taken}.parquet")
    with pytest.raises(UserError, match=broken):
        checked(held, columns)


def test_held_out_items_in_the_validation_users_window_are_caught():
    held, columns = folded()
    moved = (columns["part"] == assign.PARTS.index("test_judge.parquet")) & held.validation_user[columns["user"]]
    assert moved.any()
    columns["part"][moved] = assign.PARTS.index("validation.parquet")
    with pytest.raises(UserError, match="no test-cold item before the test window"):
        checked(held, columns)


def test_a_split_that_lets_held_out_items_into_training_stops(tmp_path, monkeypatch):
    write_log(tmp_path / "data")

    def leaky(user: np.ndarray, item: np.ndarray, held: HeldOut) -> np.ndarray:
        part = by_fold(user, item, held)
        # Rows of training users alone: no check of users sees them.
        part[held.test_item[item] & ~held.test_user[user] & ~held.validation_user[user]] = 0
        return part

    monkeypatch.setattr(assign, "by_fold", leaky)
    with pytest.raises(UserError, match="no test-cold item before the test window"):
        split(SplitConfig(protocol="folds", folds=3), data=tmp_path / "data", out=tmp_path / "split")


def test_no_time_becomes_an_object(tmp_path):
    # 190 bytes an event as Python objects. A hundred is far from both; the rest is fixed cost.
    events = 100_000
    write_log(tmp_path / "data", users=500, items=200, events=events)
    tracemalloc.start()
    try:
        split(SplitConfig(), data=tmp_path / "data", out=tmp_path / "split")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / events < 100


def test_windows_must_leave_training():
    with pytest.raises(ValueError, match="below 1"):
        SplitConfig(validation=0.5, test=0.5)
