"""What the surrogate recovers of a planted relation, and how its fit is told."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.lifetime.intervals import by_user
from recdistill.lifetime.naive import Naive
from recdistill.lifetime.signals import Signals
from recdistill.lifetime.surrogate import Surrogate, calibration, r_squared, rank_correlation


def _planted(n: int, *, seed: int) -> tuple[Signals, np.ndarray]:
    rng = np.random.default_rng(seed)
    active, events = rng.integers(1, 8, size=n).astype(float), rng.integers(1, 40, size=n).astype(float)
    satisfaction = rng.random(n)
    zero = np.zeros(n)
    signals = Signals(
        user=np.arange(n),
        end=zero.astype(np.int64),
        active_days=active,
        recency=1 + zero,
        events=events,
        items=events,
        breadth=1 + zero,
        satisfaction=satisfaction,
        behaviours=rng.random(n),
        prior_activity=zero,
        prior_satisfaction=zero,
    )
    return signals, rng.binomial(7, 0.1 + 0.7 * satisfaction).astype(float)


def test_surrogate_recovers_a_planted_relation() -> None:
    """E[LT7] = 0.7 + 4.9 · satisfaction; binomial noise leaves R² = var(signal) / var(outcome)."""
    surrogate = Surrogate.fit(*_planted(4000, seed=0), horizon=7)
    signals, outcome = _planted(4000, seed=1)
    predicted = surrogate.predict(signals)
    truth = 0.7 + 4.9 * signals.satisfaction
    assert np.abs(predicted - truth).mean() < 0.1
    assert r_squared(outcome, predicted) == pytest.approx(r_squared(outcome, truth), abs=0.01)
    naive = Naive.fit(_planted(4000, seed=0)[0].active_days, _planted(4000, seed=0)[1], horizon=7)
    assert r_squared(outcome, naive.predict(signals.active_days)) == pytest.approx(0, abs=0.01)
    assert rank_correlation(outcome, predicted) > 0.7
    assert predicted.min() >= 0
    assert predicted.max() <= 7
    assert calibration(outcome, predicted).slope == pytest.approx(1, abs=0.05)
    assert calibration(outcome, predicted).error < 0.2


def test_slopes_are_days_a_unit_of_the_column() -> None:
    surrogate = Surrogate.fit(*_planted(4000, seed=0), horizon=7)
    signals, _ = _planted(100, seed=1)
    slopes = surrogate.slopes()
    assert slopes["satisfaction"] == pytest.approx(4.9, abs=0.15)
    assert slopes["behaviours"] == pytest.approx(0, abs=0.15)
    lifted = Signals(**{**vars(signals), "satisfaction": signals.satisfaction + 0.1})
    np.testing.assert_allclose(surrogate.index(lifted) - surrogate.index(signals), 0.1 * slopes["satisfaction"])


def test_r_squared_and_rank_correlation_of_degenerate_cases() -> None:
    same, varied = np.ones(4), np.arange(4.0)
    assert np.isnan(r_squared(same, varied))
    assert r_squared(varied, varied) == 1
    assert rank_correlation(varied, same) == 0
    assert rank_correlation(varied, np.exp(varied)) == pytest.approx(1)


def test_calibration_by_hand() -> None:
    """Predictions twice too far apart and half a day too high, in two bins of two."""
    outcome = np.array([1.0, 1.0, 2.0, 2.0])
    predicted = np.array([1.0, 1.0, 3.0, 3.0])
    found = calibration(outcome, predicted, bins=2)
    assert (found.bias, found.slope, found.error) == (0.5, 0.5, 0.5)
    assert np.isnan(calibration(outcome, np.ones(4), bins=2).slope)


def test_what_differs_by_rounding_alone_does_not_vary() -> None:
    """A prediction from a constant, as the mean of many: no slope of 2.5e15, no rank correlation of noise."""
    outcome = np.arange(6.0)
    predicted = 4.1 + 1e-15 * np.array([0, 4, 0, 2, 4, 0])
    assert np.ptp(predicted) > 0
    assert np.isnan(calibration(outcome, predicted, bins=2).slope)
    assert rank_correlation(outcome, predicted) == 0
    assert np.isnan(r_squared(predicted, outcome))
    slopes = Surrogate.fit(*_planted(50, seed=0), horizon=7).slopes()
    assert (slopes["recency"], slopes["prior_activity"]) == (0, 0)


def test_intervals_resample_users_not_rows() -> None:
    """Ten rows of each of forty users, alike within a user: the mean errs as of forty values, not of four hundred."""
    values = np.random.default_rng(0).standard_normal(40)
    user, value = np.repeat(np.arange(40), 10), np.repeat(values, 10)
    low, high = by_user(lambda at: float(value[at].mean()), user, draws=2000, seed=0) or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.1)
    assert low < values.mean() < high
    shuffled = np.random.default_rng(1).permutation(400)
    again = by_user(lambda at: float(value[shuffled][at].mean()), user[shuffled], draws=2000, seed=0)
    assert again == pytest.approx((low, high))
    assert by_user(lambda at: np.nan, user, draws=10, seed=0) is None
