"""Propensities and policy values: by hand, by enumeration, and where each estimator is right though a part is wrong."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.lifetime.policy import doubly_robust, effective_sample_size, importance_weights, snips
from recdistill.lifetime.propensities import (
    look_of_random_subset,
    look_propensities,
    looks_by_rank,
    ranked_positions,
)

LOOK = np.array([1.0, 0.6, 0.3])
MERIT = np.array([0.2, 0.5, 0.9])


def test_look_by_hand() -> None:
    position = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    positive = np.array([1, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
    assert look_propensities(position, positive).tolist() == [1, 0.5]
    with pytest.raises(ValueError, match="every position needs rows"):
        look_propensities(np.array([1, 3]), np.array([True, False]))
    with pytest.raises(ValueError, match="first one positives"):
        look_propensities(np.array([1, 2]), np.array([False, True]))


def test_look_is_found_on_shuffled_pages_and_not_on_ranked_ones() -> None:
    """On ranked pages the better items stand first, and their merit passes for looks."""
    rng = np.random.default_rng(0)
    merit = rng.random((40_000, 3))
    position = np.tile([1, 2, 3], 40_000)
    found = {}
    for name, shown in (("shuffled", merit), ("ranked", -np.sort(-merit, axis=1))):
        found[name] = look_propensities(position, (rng.random(merit.shape) < LOOK * shown).ravel())
    np.testing.assert_allclose(found["shuffled"], LOOK, atol=0.02)
    np.testing.assert_allclose(found["ranked"], LOOK * [1, 2 / 3, 1 / 3], atol=0.02)


def test_ranked_positions_by_hand() -> None:
    group, score = np.array([7, 2, 7, 7, 2]), np.array([0.1, 5.0, 0.3, 0.3, 9.0])
    assert ranked_positions(group, score).tolist() == [3, 2, 1, 2, 1]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=1, max_size=40))
def test_positions_of_a_group_are_all_there_and_follow_the_score(rows: list[tuple[int, int]]) -> None:
    group, score = (np.array(column) for column in zip(*rows, strict=True))
    position = ranked_positions(group, score)
    for one in np.unique(group):
        of = np.flatnonzero(group == one)
        assert sorted(position[of]) == list(range(1, len(of) + 1))
        assert (np.diff(score[of][np.argsort(position[of])]) <= 0).all()


def test_look_of_a_random_page_by_enumeration() -> None:
    """Of 5 candidates the policy shows its best 3; a page shows any 3 of the 5."""
    at = np.concatenate([LOOK, [0, 0]])
    pages = np.array(list(combinations(range(5), 3)))  # ranks, best first
    np.testing.assert_allclose(look_of_random_subset(LOOK, shown=3, candidates=5), at[pages].mean(axis=0))
    np.testing.assert_allclose(look_of_random_subset(LOOK, shown=3, candidates=3), LOOK)
    # A page shorter than the policy's: all there was.
    np.testing.assert_allclose(look_of_random_subset(LOOK, shown=2, candidates=2), LOOK[:2])


@given(st.integers(1, 8), st.integers(0, 8))
def test_a_random_page_stands_for_its_share_of_looks(shown: int, unseen: int) -> None:
    look = 0.8 ** np.arange(shown)
    part = look_of_random_subset(look, shown=shown, candidates=shown + unseen)
    assert part.sum() == pytest.approx(look.sum() * shown / (shown + unseen))
    assert (np.diff(part) <= 1e-12).all()


def test_looks_by_rank_by_hand() -> None:
    """Groups of two and of three, at sharpness log 16: a share of 1/4 less above it halves a look."""
    group = np.array([0, 1, 0, 1, 1])
    looks = looks_by_rank(group, np.array([0.1, 7.0, 0.2, -1.0, -1.0]), sharpness=np.log(16), groups=3)
    first, tied = 16 ** -(0.5 / 3), 16 ** -(2 / 3)
    np.testing.assert_allclose(looks[[0, 2]], [2 * 0.2, 2 * 0.8])
    np.testing.assert_allclose(looks[[1, 3, 4]], np.array([first, tied, tied]) * 3 / (first + 2 * tied))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=40), st.floats(0, 8))
def test_looks_by_rank_follow_the_order_alone(rows: list[tuple[int, int]], sharpness: float) -> None:
    group, score = (np.array(column) for column in zip(*rows, strict=True))
    looks = looks_by_rank(group, score, sharpness=sharpness, groups=4)
    np.testing.assert_allclose(looks_by_rank(group, np.exp(2.0 * score), sharpness=sharpness, groups=4), looks)
    shuffled = np.random.default_rng(0).permutation(len(group))
    np.testing.assert_allclose(
        looks_by_rank(group[shuffled], score[shuffled], sharpness=sharpness, groups=4), looks[shuffled]
    )
    for one in np.unique(group):
        of = group == one
        assert looks[of].mean() == pytest.approx(1)
        assert (np.diff(looks[of][np.argsort(score[of])]) >= -1e-12).all()


@given(st.integers(1, 200), st.floats(1e-3, 20))
def test_without_ties_a_look_is_bounded_however_many_rows_there_are(rows: int, sharpness: float) -> None:
    looks = looks_by_rank(np.zeros(rows, dtype=int), np.arange(rows, 0.0, -1), sharpness=sharpness, groups=1)
    assert looks.max() <= sharpness / -np.expm1(-sharpness) + 1e-9


def test_weights_and_their_effective_size_by_hand() -> None:
    weight = importance_weights(np.array([1.0, 0.3]), np.array([0.1, 0.6]), clip=4.0)
    assert weight.tolist() == [4.0, 0.5]
    assert effective_sample_size(weight) == pytest.approx(4.5**2 / 16.25)
    assert effective_sample_size(np.ones(9)) == 9
    assert effective_sample_size(np.zeros(3)) == 0


def test_snips_by_hand() -> None:
    """One page in the order 3, 2, 1 of a policy: its best item stood last and was clicked there."""
    target, look = LOOK[::-1], LOOK
    reward = np.array([0.0, 0.0, 1.0])
    weight = importance_weights(target, look, clip=10.0)
    assert snips(reward, weight=weight, look=look) == pytest.approx((1 / 0.3) / LOOK.sum())
    clipped = importance_weights(target, look, clip=2.0)
    assert snips(reward, weight=clipped, look=look) == pytest.approx(2 / (0.3 + 0.6 + 2 * 0.3))
    assert np.isnan(snips(np.zeros(0), weight=np.zeros(0), look=np.zeros(0)))


def test_the_logs_own_order_has_the_logs_own_value() -> None:
    rng = np.random.default_rng(0)
    reward, look = rng.random(30), rng.random(30)
    weight = importance_weights(look, look, clip=10.0)
    assert snips(reward, weight=weight, look=look) == pytest.approx(reward.sum() / look.sum())


@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0, 1)), min_size=1, max_size=20), st.floats(0.5, 5))
def test_where_everything_pleases_alike_no_order_is_better(rows: list[tuple[float, float]], clip: float) -> None:
    look, target = (np.array(column) for column in zip(*rows, strict=True))
    weight = importance_weights(target + 0.01, look, clip=clip)
    assert snips(0.4 * look, weight=weight, look=look) == pytest.approx(0.4)


def _shuffled(*, merit_error: float, wrong_propensity: bool) -> tuple[float, float]:
    """Every order of a page of three, rewards at their mean: what snips and doubly robust make of a policy's order."""
    policy = np.array([2, 0, 1])  # the policy's position of each item
    value: list[float] = []
    orders = np.array(list(permutations(range(3))))  # position of each item
    look = LOOK[orders].ravel()
    reward = look * np.tile(MERIT, 6)
    target = np.tile(LOOK[policy], 6)
    propensity = np.full(18, LOOK.mean())
    if wrong_propensity:
        propensity = propensity * np.tile([0.5, 1.0, 2.0], 6)
    weight = importance_weights(target, propensity, clip=1e9)
    merit = np.tile(MERIT, 6) + merit_error * np.tile([1.0, -1.0, 0.5], 6)
    value.append(snips(reward, weight=weight, look=look))
    value.append(doubly_robust(reward, merit=merit, target=target, weight=weight, look=look))
    return value[0], value[1]


def test_doubly_robust_needs_one_of_the_two() -> None:
    truth = float((LOOK[[2, 0, 1]] * MERIT).sum() / LOOK.sum())
    assert _shuffled(merit_error=0.0, wrong_propensity=False) == pytest.approx((truth, truth))
    assert _shuffled(merit_error=0.3, wrong_propensity=False) == pytest.approx((truth, truth))
    weighted, robust = _shuffled(merit_error=0.0, wrong_propensity=True)
    assert robust == pytest.approx(truth)
    assert abs(weighted - truth) > 0.02
    assert abs(_shuffled(merit_error=0.3, wrong_propensity=True)[1] - truth) > 0.02


def test_with_positions_as_propensities_the_model_cancels() -> None:
    rng = np.random.default_rng(0)
    reward, look, target, merit = rng.random((4, 30)) + 0.05
    weight = importance_weights(target, look, clip=1e9)
    assert doubly_robust(reward, merit=merit, target=target, weight=weight, look=look) == pytest.approx(
        snips(reward, weight=weight, look=look)
    )


def test_a_good_model_takes_the_luck_of_positions_away() -> None:
    """Rewards at their mean, positions by chance: with true merits nothing is left to chance."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(50):
        merit = np.tile(MERIT, 5)
        look, target = LOOK[np.concatenate([rng.permutation(3) for _ in range(5)])], np.tile(LOOK[[2, 1, 0]], 5)
        weight = importance_weights(target, np.full(15, LOOK.mean()), clip=10.0)
        exact = float((target * merit).sum() / target.sum())
        robust = doubly_robust(look * merit, merit=merit, target=target, weight=weight, look=look)
        assert robust == pytest.approx(exact)
        errors.append(snips(look * merit, weight=weight, look=look) - exact)
    assert np.std(errors) > 0.02
