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


def test_plan_cuts_the_horizon_of_a_short_log_and_keeps_a_window() -> None:
    assert make_plan(first_day=0, last_day=59, test_day=48, horizon=30, signal_days=7) == Plan(30, 22, 7, 0, 59, 30)
    assert make_plan(first_day=0, last_day=43, test_day=35, horizon=30, signal_days=7) == Plan(30, 16, 5, 0, 43, 22)
    assert make_plan(first_day=0, last_day=19, test_day=16, horizon=7, signal_days=7) == Plan(7, 7, 2, 0, 19, 10)
    assert make_plan(first_day=0, last_day=39, test_day=30, horizon=30, signal_days=1) == Plan(30, 18, 1, 0, 39, 20)


def test_what_would_bear_the_name_of_lt_n_alone_is_no_plan() -> None:
    """Less than half the horizon, or a test window of a day, in which everybody is active once."""
    assert make_plan(first_day=0, last_day=39, test_day=32, horizon=30, signal_days=7) is None
    assert make_plan(first_day=0, last_day=11, test_day=8, horizon=7, signal_days=7) is None
    assert make_plan(first_day=0, last_day=99, test_day=99, horizon=7, signal_days=7) is None


@pytest.mark.parametrize("days", range(6, 80, 3))
@pytest.mark.parametrize("horizon", [7, 30])
def test_a_plan_never_lets_cohorts_overlap(days: int, horizon: int) -> None:
    plan = make_plan(first_day=0, last_day=days - 1, test_day=int(0.8 * days), horizon=horizon, signal_days=7)
    if plan is None:
        assert days < {7: 14, 30: 42}[horizon]
        return
    assert horizon / 2 <= plan.horizon <= horizon
    assert 2 <= plan.signal_days <= 7
    assert plan.boundary - plan.first_day >= plan.signal_days + plan.horizon
    assert plan.last_day + 1 - plan.boundary >= plan.signal_days + plan.horizon


def test_entries_are_users_in_whole_windows() -> None:
    entry, user, end = find_entries(USER, DAY, start=0, stop=9, signal_days=4)
    assert user.tolist() == [0, 0, 1, 2]
    assert end.tolist() == [4, 8, 4, 4]
    assert entry.tolist() == [0, 0, 0, 1, -1, 2, 3, -1]
