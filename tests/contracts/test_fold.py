"""What a fit may learn from of another log than the interactions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import write_table
from recdistill.split import SplitConfig, split

SECOND = 1_000_000


def events(users: list[str | None], items: list[int], seconds: list[int]) -> pa.Table:
    times = pa.array([SECOND * second for second in seconds], pa.timestamp("us", "UTC"))
    return pa.table({"user_id": pa.array(users, pa.string()), "item_id": items, "timestamp": times})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten users and items; item n is first met at second 10·n."""
    folder = tmp_path_factory.mktemp("data")
    seconds = list(range(100))
    log = events(
        [f"u{second % 10}" for second in seconds], [(7 * second) % (1 + second // 10) for second in seconds], seconds
    )
    write_table(log.append_column("behaviours", pa.array([["like"]] * 100)), folder / "interactions.parquet")
    write_table(pd.DataFrame({"item_id": range(10)}), folder / "items.parquet")
    return folder


def test_a_time_cut_admits_what_is_strictly_earlier_and_of_known_items(data: Path, tmp_path: Path) -> None:
    split(SplitConfig(), data=data, out=tmp_path)
    fold = Fold(tmp_path / "time")
    searches = events([None, "u1", "who", "u1", None], [0, 0, 0, 9, 5], [59, 60, 79, 0, 80])
    known = {fit: set(range(10)) - set(fold.cold(fit)) for fit in FITS}
    assert 9 not in known["final"] and 0 in known["selection"]
    assert fold.may_learn("selection", searches).tolist() == [True, False, False, False, False]
    assert fold.may_learn("final", searches).tolist() == [True, True, True, False, False]
    assert fold.may_learn("final", searches.drop_columns("user_id")).tolist() == [True, True, True, False, False]
    assert fold.may_learn("final", searches.slice(0, 0)).tolist() == []


def test_a_fit_is_trained_until_its_newest_interaction(data: Path, tmp_path: Path) -> None:
    split(SplitConfig(), data=data, out=tmp_path)
    split(SplitConfig(protocol="folds", folds=3), data=data, out=tmp_path)
    for name in ("time", *SplitConfig(protocol="folds", folds=3).fold_names()):
        fold = Fold(tmp_path / name)
        for fit in FITS:
            until = fold.trained_until(fit)
            assert until is not None
            assert (until - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1) == fold.training(
                fit
            ).time.max()
    assert Fold(tmp_path / "time").trained_until("selection") < Fold(tmp_path / "time").trained_until("final")


def test_user_disjoint_folds_admit_the_training_users_alone(data: Path, tmp_path: Path) -> None:
    split(SplitConfig(protocol="folds", folds=3), data=data, out=tmp_path)
    for name in SplitConfig(protocol="folds", folds=3).fold_names():
        fold = Fold(tmp_path / name)
        users = [*(f"u{n}" for n in range(10)), "stranger", None]
        for fit in FITS:
            trained = set(fold.training(fit).user_ids)
            for item in range(10):
                allowed = fold.may_learn(fit, events(users, [item] * 12, [1] * 12))
                expected = [item not in fold.cold(fit) and user in trained for user in users]
                assert allowed.tolist() == expected
            assert 0 < len(trained) < 10
            assert not fold.may_learn(fit, events(users, [0] * 12, [1] * 12).drop_columns("user_id")).any()
