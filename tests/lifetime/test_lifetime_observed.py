"""LT-n observed, its censoring, entries, and the plan of cohorts."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.lifetime.observed import active_days_after, find_entries
from recdistill.lifetime.plan import Plan, make_plan

# User 0 comes on days 0, 1 (twice), 4 and 9; user 1 on day 0 only; user 2 on days 2 and 9.
USER = np.array([0, 0, 0, 0, 0, 1, 2, 2])
DAY = np.array([0, 1, 1, 4, 9, 0, 2, 9])


def _after(user: list[int], day: list[int], days: int) -> list[float]:
    return active_days_after(USER, DAY, at_user=np.array(user), at_day=np.array(day), days=days, last_day=9).tolist()


def test_lt_n_by_hand() -> None:
    assert _after([0, 0, 0, 1, 2], [0, 1, 2, 1, 3], 4) == [2, 2, 1, 0, 0]
    assert _after([0, 2], [1, 3], 7) == [2, 1]


def test_what_runs_past_the_logs_end_is_censored() -> None:
    lasting = _after([0, 0, 1], [3, 4, 4], 7)
    assert lasting[0] == 2
    assert np.isnan(lasting[1:]).all()


def test_plan_prefers_the_boundary_with_the_longer_window() -> None:
    roomy = make_plan(first_day=0, last_day=299, test_day=240, horizon=30, signal_days=7)
    assert roomy == Plan(30, 30, 7, 0, 299, 240)
    tight = make_plan(first_day=0, last_day=69, test_day=56, horizon=30, signal_days=7)
    assert tight == Plan(30, 30, 2, 0, 69, 35)


def test_plan_cuts_the_horizon_of_a_short_log() -> None:
    assert make_plan(first_day=0, last_day=19, test_day=16, horizon=30, signal_days=7) == Plan(30, 8, 1, 0, 19, 10)
    assert make_plan(first_day=0, last_day=4, test_day=3, horizon=7, signal_days=7) is None


@pytest.mark.parametrize("days", range(6, 80, 3))
@pytest.mark.parametrize("horizon", [7, 30])
def test_a_plan_never_lets_cohorts_overlap(days: int, horizon: int) -> None:
    plan = make_plan(first_day=0, last_day=days - 1, test_day=int(0.8 * days), horizon=horizon, signal_days=7)
    assert plan is not None
    assert 1 <= plan.horizon <= horizon
    assert plan.signal_days >= 1
    assert plan.boundary - plan.first_day >= plan.signal_days + plan.horizon
    assert plan.last_day + 1 - plan.boundary >= plan.signal_days + plan.horizon


def test_entries_are_users_in_whole_windows() -> None:
    entry, user, end = find_entries(USER, DAY, start=0, stop=9, signal_days=4)
    assert user.tolist() == [0, 0, 1, 2]
    assert end.tolist() == [4, 8, 4, 4]
    assert entry.tolist() == [0, 0, 0, 1, -1, 2, 3, -1]
