"""Proxies of rankers: intervals with the surrogate's error in them, and what is said where pleasing shows no worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.lifetime.naive import Naive, days_before, look_back
from recdistill.lifetime.proxies import Proxies, estimate_proxies
from recdistill.lifetime.refit import Refits
from recdistill.lifetime.signals import Signals
from recdistill.lifetime.surrogate import Surrogate, fit_ridge


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e6, 1e6))
def test_refits_are_what_a_fit_on_the_drawn_users_entries_gives(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    user = rng.integers(6, size=40)
    matrix = np.column_stack([rng.standard_normal((40, 2)) * [1, 30], np.full(40, 0.1)])
    outcome = matrix[:, 0] + rng.standard_normal(40) + offset
    weight = rng.integers(4, size=(2, 6)) * [[1], [0]] + [[0, 1, 1, 0, 0, 0], [1, 2, 0, 0, 0, 1]]
    intercept, slopes = Refits(matrix, outcome, user, users=6)(weight.astype(np.float32))
    for at in range(2):
        rows = np.concatenate([np.repeat(np.flatnonzero(user == u), weight[at, u]) for u in range(6)])
        plain = fit_ridge(matrix[rows], outcome[rows])
        np.testing.assert_allclose(
            intercept[at] + matrix @ slopes[at], plain.predict(matrix), rtol=1e-9, atol=1e-6 + 1e-9 * abs(offset)
        )
        assert slopes[at, 2] == pytest.approx(0, abs=1e-6)


def test_a_draw_without_entries_is_not_known() -> None:
    refits = Refits(np.arange(4.0)[:, None], np.arange(4.0), np.zeros(4, dtype=np.int64), users=2)
    intercept, slopes = refits(np.array([[0, 2], [1, 1]], dtype=np.float32))
    assert np.isnan(intercept[0]) and np.isnan(slopes[0]).all()
    assert np.isfinite(intercept[1]) and np.isfinite(slopes[1]).all()


def _world(users: int, *, worth: float, seed: int) -> tuple[tuple[Signals, np.ndarray], Signals, np.ndarray]:
    """Training entries of outcome 3 + worth · satisfaction + noise, and entries of six events, half of which please.

    Returns:
        training, the valued entries, and [6 · users] bool which of their events please.
    """
    rng = np.random.default_rng(seed)

    def signals(satisfaction: np.ndarray) -> Signals:
        one = np.ones(users)
        return Signals(
            user=np.arange(users),
            end=np.full(users, 7),
            active_days=rng.integers(1, 8, size=users).astype(float),
            recency=one,
            events=6 * one,
            items=6 * one,
            breadth=one,
            satisfaction=satisfaction,
            behaviours=satisfaction,
            prior_activity=rng.random(users),
            prior_satisfaction=0.5 * one,
        )

    training = signals(rng.random(users))
    outcome = 3 + worth * training.satisfaction + rng.standard_normal(users)
    pleases = rng.random((users, 6)) < 0.5
    return (training, outcome), signals(pleases.mean(axis=1)), pleases.ravel()


def _estimate(users: int, *, worth: float, seed: int = 0, draws: int = 300) -> Proxies:
    training, observed, pleases = _world(users, worth=worth, seed=seed)
    noise = np.random.default_rng(seed).standard_normal((2, len(pleases)))
    return estimate_proxies(
        Surrogate.fit(*training, horizon=7),
        training,
        observed,
        np.repeat(np.arange(users), 6),
        behaviours=pleases.astype(np.int64),
        scores={"none": noise[0], "better": pleases + noise[1], "as good": 5 * noise[0] - 1},
        base="none",
        sharpness=3.0,
        draws=draws,
        seed=seed,
    )


def test_a_proxy_is_the_mean_index_and_its_interval_holds_it() -> None:
    found = _estimate(800, worth=2.0)
    assert found.told
    assert found.by_pleasing.value == pytest.approx(2.0, abs=0.3)
    gain = found.gain["better"]
    assert gain.value == pytest.approx(found.days["better"].value - found.days["none"].value)
    assert gain.interval is not None
    assert 0 < gain.interval[0] < gain.value < gain.interval[1]
    # Same order, other scores.
    assert found.gain["as good"].value == pytest.approx(0, abs=1e-12)
    assert found.gain["as good"].interval == pytest.approx((0, 0), abs=1e-9)
    assert set(found.gain) == {"better", "as good"}
    looks = np.exp(-3 * (np.arange(6) + 0.5) / 6)
    assert found.effective_share == pytest.approx(looks.sum() ** 2 / (6 * (looks**2).sum()))


def test_intervals_have_the_surrogates_error() -> None:
    """A worth known to a tenth makes a gain known to a tenth at best, however many events value the rankers."""
    few = _estimate(150, worth=2.0)
    assert few.by_pleasing.interval is not None and few.gain["better"].interval is not None
    of_slope = np.diff(few.by_pleasing.interval)[0] / few.by_pleasing.value
    of_gain = np.diff(few.gain["better"].interval)[0] / few.gain["better"].value
    assert of_gain > 0.95 * of_slope


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over fresh worlds: the gain is worth times what the ranker pleases more."""
    held, runs = 0, 60
    training, observed, pleases = _world(20_000, worth=0.0, seed=99)
    noise = np.random.default_rng(99).standard_normal((2, len(pleases)))
    exact = estimate_proxies(
        Surrogate.fit(training[0], 1 + 0.4 * training[0].satisfaction, horizon=7),
        (training[0], 1 + 0.4 * training[0].satisfaction),
        observed,
        np.repeat(np.arange(20_000), 6),
        behaviours=pleases.astype(np.int64),
        scores={"none": noise[0], "better": pleases + noise[1]},
        base="none",
        sharpness=3.0,
        draws=2,
        seed=0,
    )
    truth = exact.gain["better"].value
    for seed in range(runs):
        limits = _estimate(200, worth=0.4, seed=seed, draws=100).gain["better"].interval
        assert limits is not None
        held += limits[0] < truth < limits[1]
    assert held / runs > 0.85


@pytest.mark.parametrize("worth", [0.0, -1.0])
def test_where_pleasing_shows_no_worth_that_is_told(worth: float) -> None:
    found = _estimate(300, worth=worth)
    assert not found.told
    assert found.by_pleasing.interval is not None and found.by_pleasing.interval[0] < 0
    assert np.isfinite(found.gain["better"].value)


def test_the_baseline_counts_days_before_a_windows_end_whatever_the_window() -> None:
    """Users 0 and 1 come on days 0, 1, 4, 9 and on day 2; windows of one day end on days 5 and 10."""
    user, day = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 4, 9, 2])
    at_user, end = np.array([0, 0, 1]), np.array([5, 10, 10])
    assert days_before(user, day, at_user=at_user, end=end, days=5).tolist() == [3, 1, 0]
    assert days_before(user, day, at_user=at_user, end=np.array([5, 10, 5]), days=4).tolist() == [2, 1, 1]


def test_the_baseline_counts_seven_days_or_what_the_log_has() -> None:
    end = np.array([2] * 5 + [4] * 3 + [20] * 2)
    assert [look_back(end, first_day=0, fewest=fewest) for fewest in (2, 3, 5, 6, 10)] == [7, 4, 4, 2, 2]


def test_the_baseline_of_equal_users_foretells_the_mean() -> None:
    naive = Naive.fit(np.ones(5), np.array([1.0, 2, 3, 4, 5]), horizon=7)
    np.testing.assert_allclose(naive.predict(np.ones(3)), 3)
