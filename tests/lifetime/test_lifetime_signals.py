"""Signals of a window by hand, and what a ranker's order would make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.lifetime.cohort import Events, cohort
from recdistill.lifetime.plan import Plan
from recdistill.lifetime.policy import effective_sample_size
from recdistill.lifetime.signals import COLUMNS, Past, Signals, measure
from recdistill.lifetime.under_policy import under_ranker

# User 0 comes on days 0, 1 (twice), 4 and 9; user 1 on day 0 only; user 2 on days 2 and 9.
USER = np.array([0, 0, 0, 0, 0, 1, 2, 2])
DAY = np.array([0, 1, 1, 4, 9, 0, 2, 9])
BEHAVIOURS = np.array([1, 0, 1, 0, 0, 1, 1, 0])


def test_past_by_hand() -> None:
    past = Past(user=USER, day=DAY, behaviours=BEHAVIOURS, users=3, until=5)
    # Before day 5: 5 user-days; spans since the first day 5 + 5 + 3; 4 of 6 events positive.
    common, pleased = 5 / 13, 4 / 6
    rate, satisfaction = past(np.array([0, 1, 2]), np.array([4, 4, 2]))
    np.testing.assert_allclose(rate, [(2 + 14 * common) / 18, (1 + 14 * common) / 18, common])
    np.testing.assert_allclose(satisfaction, [(2 + 20 * pleased) / 23, (1 + 20 * pleased) / 21, pleased])


def test_past_counts_looks() -> None:
    """Half a look each: the same positives make twice the satisfaction, and weigh half against the common one."""
    past = Past(user=USER, day=DAY, behaviours=BEHAVIOURS, users=3, until=5, looks=np.full(8, 0.5))
    _, satisfaction = past(np.array([0, 1]), np.array([4, 4]))
    pleased = 4 / 3
    np.testing.assert_allclose(satisfaction, [(2 + 20 * pleased) / 21.5, (1 + 20 * pleased) / 20.5])


def _signals(looks: np.ndarray | None = None) -> tuple[Signals, np.ndarray, np.ndarray]:
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
        looks=looks,
    )
    return signals, entry, behaviours


def test_signals_by_hand() -> None:
    signals, _, _ = _signals()
    assert signals.active_days.tolist() == [3, 1]
    assert signals.recency.tolist() == [2, 1]
    assert signals.events.tolist() == [4, 2]
    assert signals.items.tolist() == [3, 2]
    assert signals.satisfaction.tolist() == [0.5, 0]
    assert signals.behaviours.tolist() == [0.75, 0]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(signals.breadth, [np.exp(entropy), 1])
    assert signals.matrix().shape == (2, len(COLUMNS))
    assert signals.take(np.array([1])).active_days.tolist() == [1]


def test_satisfaction_is_of_looks() -> None:
    signals, _, _ = _signals(np.array([1, 0.5, 0.25, 0.25, 1, 1, 1]))
    assert signals.satisfaction.tolist() == [1.0, 0]
    assert signals.behaviours.tolist() == [1.5, 0]


def test_matrix_is_linear_in_what_a_ranker_changes() -> None:
    """Else the noise of single entries would move the mean."""
    signals, entry, behaviours = _signals()
    under, _ = under_ranker(signals, entry, score=np.arange(7.0), behaviours=behaviours, sharpness=1.0)
    changed = np.flatnonzero((under.matrix() != signals.matrix()).any(axis=0))
    assert {COLUMNS[column] for column in changed} == {"satisfaction", "behaviours"}
    np.testing.assert_array_equal(under.matrix()[:, COLUMNS.index("satisfaction")], under.satisfaction)
    np.testing.assert_array_equal(under.matrix()[:, COLUMNS.index("behaviours")], under.behaviours)


def test_equal_scores_give_back_what_was_observed() -> None:
    signals, entry, behaviours = _signals()
    for score, sharpness in ((np.full(7, 3.0), 1.0), (np.arange(7.0), 0.0)):
        under, weight = under_ranker(signals, entry, score=score, behaviours=behaviours, sharpness=sharpness)
        np.testing.assert_allclose(under.matrix(), signals.matrix())
        np.testing.assert_allclose(weight, 1)
        assert effective_sample_size(weight) == pytest.approx(6)


def test_policy_weights_by_hand() -> None:
    """Looks 1/8 : 1/4 : 1/2 : 1 in the first window, of which the two that pleased hold 1/2 and 1."""
    signals, entry, behaviours = _signals()
    score = np.array([-2.0, 3.0, -1.0, 2.5, 5.0, 0.1, 9.0])
    under, weight = under_ranker(signals, entry, score=score, behaviours=behaviours, sharpness=np.log(16))
    np.testing.assert_allclose(under.satisfaction, [1.5 / 1.875, 0])
    np.testing.assert_allclose(under.behaviours, [(1 * 2 + 0.5 * 1) / 1.875, 0])
    np.testing.assert_allclose(weight[:4], 4 * np.array([0.125, 1, 0.25, 0.5]) / 1.875)
    assert under.events is signals.events


@given(st.lists(st.floats(-8, 8), min_size=7, max_size=7), st.floats(0.01, 100))
def test_a_surer_ranker_of_the_same_order_gives_the_same_signals(score: list[float], factor: float) -> None:
    signals, entry, behaviours = _signals()
    plain, surer = (
        under_ranker(signals, entry, score=scores, behaviours=behaviours, sharpness=3.0)[0]
        for scores in (np.round(score, 3), factor * np.round(score, 3) + 1)
    )
    np.testing.assert_allclose(surer.satisfaction, plain.satisfaction)
    assert (plain.satisfaction >= 0).all() and (plain.satisfaction <= 1 + 1e-12).all()
    assert plain.behaviours[0] <= 2 + 1e-12


def test_a_cohort_ends_before_its_outcomes_do() -> None:
    """Windows of two days whose three days of outcome lie in [0, 9): 0-1, 2-3, 4-5."""
    events = Events(USER, np.zeros(8, dtype=np.int64), DAY, BEHAVIOURS)
    plan = Plan(3, 3, 2, 0, 9, 9)
    past = events.past(users=3, until=9)
    signals, outcome = cohort(events, category=np.zeros(1, dtype=np.int64), past=past, plan=plan, start=0, stop=9)
    assert signals.user.tolist() == [0, 0, 1, 2]
    assert signals.end.tolist() == [2, 6, 2, 4]
    assert outcome.tolist() == [1, 0, 0, 0]
