"""Time away with censored users, and retention, by hand and by what must hold of any log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.lifetime.observed import active_days_after
from recdistill.lifetime.retention import retention_area, retention_curve
from recdistill.lifetime.returns import Waits, away, find_waits, mean_days_away
from recdistill.lifetime.summary import observed_return

# User 0 comes on days 0, 1 (twice) and 4; user 1 on day 2; user 2 on days 5 and 6. The log ends on day 6.
USER = np.array([0, 0, 0, 0, 1, 2, 2])
DAY = np.array([0, 1, 1, 4, 2, 5, 6])


def test_waits_by_hand() -> None:
    waits = find_waits(USER, DAY, last_day=6)
    assert waits.user.tolist() == [0, 0, 0, 1, 2]
    assert waits.day.tolist() == [0, 1, 4, 2, 5]
    assert waits.days.tolist() == [1, 3, 2, 4, 1]
    assert waits.returned.tolist() == [True, True, False, False, True]


def test_kaplan_meier_by_hand() -> None:
    """Waits 1, 1, 2+, 3, 4+: 5 at risk at day 1, 3 at 2, 2 at 3, 1 at 4."""
    waits = find_waits(USER, DAY, last_day=6)
    np.testing.assert_allclose(away(waits, days=5), [1, 3 / 5, 3 / 5, 3 / 10, 3 / 10])
    assert mean_days_away(waits, within=3) == pytest.approx(1 + 0.6 + 0.6)
    assert np.isnan(mean_days_away(waits, within=6))


def test_without_censoring_it_is_the_plain_mean() -> None:
    days = np.array([1, 2, 2, 7, 30])
    waits = Waits(np.arange(5), np.zeros(5, dtype=np.int64), days, np.ones(5, dtype=bool))
    assert mean_days_away(waits, within=10) == pytest.approx(np.minimum(days, 10).mean())
    assert mean_days_away(waits, within=31) == pytest.approx(days.mean())


def test_once_everybody_is_back_nobody_is_away_any_longer() -> None:
    """All come every other day: two days away, in a log of any length, and within any number of days."""
    user, day = np.repeat(np.arange(5), 31), np.tile(np.arange(0, 61, 2), 5)
    waits = find_waits(user, day, last_day=60)
    np.testing.assert_array_equal(away(waits, days=7), [1, 1, 0, 0, 0, 0, 0])
    assert mean_days_away(waits, within=7) == mean_days_away(waits, within=30) == 2
    # One of them stays away when the others are back: for how long is not seen.
    gone = (user < 4) | (day < 58)
    assert np.isnan(mean_days_away(find_waits(user[gone], day[gone], last_day=60), within=7))


def test_censored_users_are_not_left_out() -> None:
    """Returns of chance .2 a day in a log of 40: the mean within 20 is known, and the returned alone flatter."""
    rng = np.random.default_rng(0)
    active = rng.random((3000, 40)) < 0.2
    user, day = np.nonzero(active)
    waits = find_waits(user, day, last_day=39)
    truth = sum(0.8**t for t in range(20))
    assert mean_days_away(waits, within=20) == pytest.approx(truth, rel=0.02)
    assert mean_days_away(waits.take(np.flatnonzero(waits.returned)), within=20) < 0.97 * truth


def test_retention_by_hand() -> None:
    """After days 0, 2 and 5: user 2's third day is beyond the log, and leaves the share."""
    curve = retention_curve(USER, DAY, at_user=np.array([0, 1, 2]), at_day=np.array([1, 3, 6]), days=3, last_day=6)
    np.testing.assert_allclose(curve, [2 / 3, 0, 0])
    later = retention_curve(USER, DAY, at_user=np.array([2]), at_day=np.array([6]), days=3, last_day=6)
    assert later[0] == 1
    assert np.isnan(later[1:]).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=1, max_size=60), st.integers(1, 6))
def test_the_area_is_the_mean_lt_n_where_nothing_is_censored(events: list[tuple[int, int]], days: int) -> None:
    user, day = (np.array(column) for column in zip(*events, strict=True))
    at_user, at_day = np.arange(5), np.arange(5) + 3
    curve = retention_curve(user, day, at_user=at_user, at_day=at_day, days=days, last_day=20)
    lt = active_days_after(user, day, at_user=at_user, at_day=at_day, days=days, last_day=20)
    assert retention_area(curve) == pytest.approx(lt.mean())


def test_summary_of_a_log() -> None:
    found = observed_return(USER + 7, DAY, last_day=6)
    assert (found["users"], found["visits"], found["censored"]) == (3, 5, 2)
    assert found["retention_area_7"] is None  # nobody's seventh day after is in the log
    assert found["mean_days_away_7"] is None
    week = observed_return(np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4), last_day=9)
    assert week["retention_day_7"] == 1
    assert week["retention_area_7"] == 7
    assert week["retention_area_30"] is None
