"""LT-n observed, its censoring, the signals, and what the surrogate recovers."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.rankers import lifetime
from recdistill.rankers.signals import Past, Signals, measure, under_ranker

# User 0 comes on days 0, 1 (twice), 4 and 9; user 1 on day 0 only; user 2 on days 2 and 9.
USER = np.array([0, 0, 0, 0, 0, 1, 2, 2])
DAY = np.array([0, 1, 1, 4, 9, 0, 2, 9])


def _after(user: list[int], day: list[int], days: int) -> list[float]:
    return lifetime.active_days_after(
        USER, DAY, at_user=np.array(user), at_day=np.array(day), days=days, last_day=9
    ).tolist()


def test_lt_n_by_hand() -> None:
    assert _after([0, 0, 0, 1, 2], [0, 1, 2, 1, 3], 4) == [2, 2, 1, 0, 0]
    assert _after([0, 2], [1, 3], 7) == [2, 1]


def test_what_runs_past_the_logs_end_is_censored() -> None:
    lasting = _after([0, 0, 1], [3, 4, 4], 7)
    assert lasting[0] == 2
    assert np.isnan(lasting[1:]).all()


def test_plan_prefers_the_boundary_with_the_longer_window() -> None:
    roomy = lifetime.make_plan(first_day=0, last_day=299, test_day=240, horizon=30, signal_days=7)
    assert roomy == lifetime.Plan(30, 30, 7, 0, 299, 240)
    tight = lifetime.make_plan(first_day=0, last_day=69, test_day=56, horizon=30, signal_days=7)
    assert tight == lifetime.Plan(30, 30, 2, 0, 69, 35)


def test_plan_cuts_the_horizon_of_a_short_log() -> None:
    assert lifetime.make_plan(first_day=0, last_day=19, test_day=16, horizon=30, signal_days=7) == lifetime.Plan(
        30, 8, 1, 0, 19, 10
    )
    assert lifetime.make_plan(first_day=0, last_day=4, test_day=3, horizon=7, signal_days=7) is None


@pytest.mark.parametrize("days", range(6, 80, 3))
@pytest.mark.parametrize("horizon", [7, 30])
def test_a_plan_never_lets_cohorts_overlap(days: int, horizon: int) -> None:
    plan = lifetime.make_plan(first_day=0, last_day=days - 1, test_day=int(0.8 * days), horizon=horizon, signal_days=7)
    assert plan is not None
    assert 1 <= plan.horizon <= horizon
    assert plan.signal_days >= 1
    assert plan.boundary - plan.first_day >= plan.signal_days + plan.horizon
    assert plan.last_day + 1 - plan.boundary >= plan.signal_days + plan.horizon


def test_entries_are_users_in_whole_windows() -> None:
    entry, user, end = lifetime.find_entries(USER, DAY, start=0, stop=9, signal_days=4)
    assert user.tolist() == [0, 0, 1, 2]
    assert end.tolist() == [4, 8, 4, 4]
    assert entry.tolist() == [0, 0, 0, 1, -1, 2, 3, -1]


def test_past_by_hand() -> None:
    past = Past(user=USER, day=DAY, behaviours=np.array([1, 0, 1, 0, 0, 1, 1, 0]), users=3, until=5)
    # Before day 5: 5 user-days; spans since the first day 5 + 5 + 3; 4 of 6 events positive.
    common, pleased = 5 / 13, 4 / 6
    rate, satisfaction = past(np.array([0, 1, 2]), np.array([4, 4, 2]))
    np.testing.assert_allclose(rate, [(2 + 14 * common) / 18, (1 + 14 * common) / 18, common])
    np.testing.assert_allclose(satisfaction, [(2 + 20 * pleased) / 23, (1 + 20 * pleased) / 21, pleased])


def _signals() -> tuple[Signals, np.ndarray, np.ndarray]:
    entry = np.array([0, 0, 0, 0, 1, 1, -1])
    behaviours = np.array([0, 2, 0, 1, 0, 0, 5])
    past = Past(user=np.array([0, 1]), day=np.array([0, 0]), behaviours=np.array([1, 0]), users=2, until=1)
    signals = measure(
        entry,
        user=np.array([0, 1]),
        start=np.array([4, 4]),
        end=np.array([8, 8]),
        past=past,
        day=np.array([4, 4, 5, 6, 7, 7, 9]),
        item=np.array([0, 0, 1, 2, 2, 3, 1]),
        category=np.array([0, 0, 1, 1]),
        behaviours=behaviours,
    )
    return signals, entry, behaviours


def test_signals_by_hand() -> None:
    signals, _, _ = _signals()
    assert signals.active_days.tolist() == [3, 1]
    assert signals.events.tolist() == [4, 2]
    assert signals.items.tolist() == [3, 2]
    assert signals.satisfaction.tolist() == [0.5, 0]
    assert signals.behaviours.tolist() == [0.75, 0]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(signals.breadth, [np.exp(entropy), 1])
    assert signals.matrix().shape == (2, 9)


def test_equal_scores_give_back_what_was_observed() -> None:
    signals, entry, behaviours = _signals()
    under = under_ranker(signals, entry, logit=np.full(7, 3.0), behaviours=behaviours, sharpness=1.0)
    np.testing.assert_allclose(under.matrix(), signals.matrix())
    blunt = under_ranker(signals, entry, logit=np.arange(7.0), behaviours=behaviours, sharpness=0.0)
    np.testing.assert_allclose(blunt.matrix(), signals.matrix())


def test_policy_weights_by_hand() -> None:
    """Odds 1, 3, 1, 3 within the first window: its two positives hold 6 of 8 shares."""
    signals, entry, behaviours = _signals()
    logit = np.log(np.array([1.0, 3.0, 1.0, 3.0, 5.0, 0.1, 9.0]))
    under = under_ranker(signals, entry, logit=logit, behaviours=behaviours, sharpness=1.0)
    np.testing.assert_allclose(under.satisfaction, [0.75, 0])
    np.testing.assert_allclose(under.behaviours, [(3 * 2 + 3 * 1) / 8, 0])
    assert under.events is signals.events
    # A very sure ranker does not overflow.
    sure = under_ranker(signals, entry, logit=1e4 * logit, behaviours=behaviours, sharpness=1.0)
    assert np.isfinite(sure.satisfaction).all()


def _planted(n: int, *, seed: int) -> tuple[Signals, np.ndarray]:
    rng = np.random.default_rng(seed)
    active, events = rng.integers(1, 8, size=n).astype(float), rng.integers(1, 40, size=n).astype(float)
    satisfaction = rng.random(n)
    zero = np.zeros(n)
    signals = Signals(
        np.arange(n), zero.astype(np.int64), active, events, events, 1 + zero, satisfaction, satisfaction, zero, zero
    )
    return signals, rng.binomial(7, 0.1 + 0.7 * satisfaction).astype(float)


def test_surrogate_recovers_a_planted_relation() -> None:
    """E[LT7] = 0.7 + 4.9 · satisfaction; binomial noise leaves R² = var(signal) / var(outcome)."""
    surrogate = lifetime.Surrogate.fit(*_planted(4000, seed=0), horizon=7)
    signals, outcome = _planted(4000, seed=1)
    predicted = surrogate.predict(signals)
    truth = 0.7 + 4.9 * signals.satisfaction
    assert np.abs(predicted - truth).mean() < 0.1
    assert lifetime.r_squared(outcome, predicted) == pytest.approx(lifetime.r_squared(outcome, truth), abs=0.01)
    assert lifetime.r_squared(outcome, surrogate.predict_naive(signals)) == pytest.approx(0, abs=0.01)
    assert lifetime.rank_correlation(outcome, predicted) > 0.7
    assert predicted.min() >= 0
    assert predicted.max() <= 7


def test_r_squared_and_rank_correlation_of_degenerate_cases() -> None:
    same, varied = np.ones(4), np.arange(4.0)
    assert np.isnan(lifetime.r_squared(same, varied))
    assert lifetime.r_squared(varied, varied) == 1
    assert lifetime.rank_correlation(varied, same) == 0
    assert lifetime.rank_correlation(varied, np.exp(varied)) == pytest.approx(1)
