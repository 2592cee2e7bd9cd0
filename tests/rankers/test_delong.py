"""DeLong's test: by hand, by its definition, against other tests, and for rows of the same users."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.rankers import metrics
from recdistill.rankers.delong import delong

HAND = np.array([True, True, False, False, False])


def test_by_hand() -> None:
    """Placements: positives 1 and 1/2 (variance 1/8), negatives 1/2, 1 and 3/4 (variance 1/16)."""
    areas = delong(HAND, np.array([[3.0, 1.0, 2.0, 0.0, 1.0]]))
    assert areas is not None
    assert areas.value[0] == pytest.approx(0.75)
    assert areas.covariance[0, 0] == pytest.approx(1 / 8 / 2 + 1 / 16 / 3)


def test_a_difference_by_hand() -> None:
    """The second scorer: placements 2/3 and 1, and 1/2, 1, 1; covariances with the first −1/24 and 1/24."""
    areas = delong(HAND, np.array([[3.0, 1.0, 2.0, 0.0, 1.0], [2.0, 4.0, 3.0, 1.0, 0.0]]))
    assert areas is not None
    variance = (1 / 16 + 1 / 48) + (1 / 18 / 2 + 1 / 12 / 3) - 2 * (-1 / 12 / 2 + 1 / 16 / 3)
    test = areas.test(np.array([1.0, -1.0]))
    assert test.difference == pytest.approx(3 / 4 - 5 / 6)
    assert test.error == pytest.approx(np.sqrt(variance))
    assert test.p == pytest.approx(erfc(abs(test.difference) / test.error / sqrt(2)))
    assert test.detectable == pytest.approx((1.959964 + 0.841621) * test.error, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=30))
def test_is_its_definition(rows: list[tuple[bool, int, int]]) -> None:
    """Every pair of a positive and a negative compared, one by one."""
    label = np.array([one for one, _, _ in rows])
    scores = np.array([[float(a) for _, a, _ in rows], [float(b) for _, _, b in rows]])
    areas = delong(label, scores)
    if label.sum() < 2 or (~label).sum() < 2:
        assert areas is None
        return
    assert areas is not None
    pairs = scores[:, label][:, :, None] - scores[:, ~label][:, None, :]
    won = (pairs > 0) + 0.5 * (pairs == 0)
    expected = np.cov(won.mean(axis=2)) / label.sum() + np.cov(won.mean(axis=1)) / (~label).sum()
    np.testing.assert_allclose(areas.value, won.mean(axis=(1, 2)))
    np.testing.assert_allclose(areas.covariance, expected, atol=1e-12)
    alone = delong(label, scores, user=np.arange(len(label))[::-1])
    assert alone is not None
    np.testing.assert_allclose(alone.covariance, areas.covariance, atol=1e-12)


def _rows(rng: np.random.Generator, *, users: int, each: int) -> tuple[np.ndarray, ...]:
    """Scores a and b of rows whose users differ in how well b alone does."""
    user = np.repeat(np.arange(users), each)
    label = rng.random(len(user)) < 0.5
    signal = rng.normal(size=len(user)) + label
    own = rng.normal(size=users)[user]
    return user, label, np.stack([signal, signal + own * (label - 0.5) + 0.3 * rng.normal(size=len(user))])


def test_agrees_with_a_permutation_test_on_independent_rows() -> None:
    """Swapping the two scorers' ranks row by row (Venkatraman and Begg, 1996) needs no variance at all."""
    rng = np.random.default_rng(3)
    label = rng.random(300) < 0.4
    shared = rng.normal(size=300) + label
    scores = np.stack([shared + 0.6 * rng.normal(size=300), shared + 0.9 * rng.normal(size=300)])
    ranks = scores.argsort(axis=1).argsort(axis=1).astype(float)
    seen = abs(metrics.auc(label, ranks[0]) - metrics.auc(label, ranks[1]))
    swapped = []
    for _ in range(2000):
        swap = rng.random(300) < 0.5
        one, two = np.where(swap, ranks[::-1], ranks)
        swapped.append(abs(metrics.auc(label, one) - metrics.auc(label, two)) >= seen)
    areas = delong(label, scores)
    assert areas is not None
    p = areas.test(np.array([1.0, -1.0])).p
    assert 0.001 < p < 0.6
    assert p == pytest.approx(np.mean(swapped), abs=0.04)


def test_error_of_rows_of_the_same_users_is_the_bootstraps_over_users() -> None:
    """And DeLong's own is far too small there."""
    rng = np.random.default_rng(5)
    user, label, scores = _rows(rng, users=150, each=20)
    parts = [{"gauc": metrics.gauc(user, label, one, users=150, by_rows=True)} for one in scores]
    drawn = metrics.bootstrap(user, label, scores, parts=parts, draws=600, seed=0)["auc"]
    found = [delong(label, scores, user=one) for one in (user, None)]
    assert found[0] is not None and found[1] is not None
    by_user, plain = (areas.test(np.array([-1.0, 1.0])).error for areas in found if areas is not None)
    assert by_user == pytest.approx(np.std(drawn[1] - drawn[0]), rel=0.12)
    assert plain < 0.6 * by_user


def test_rejects_as_often_as_it_says_where_users_are_told_and_too_often_where_not() -> None:
    rejected = {True: 0, False: 0}
    for at in range(150):
        user, label, scores = _rows(np.random.default_rng((7, at)), users=60, each=12)
        # Which of the two is which is drawn anew for each user, so that neither is better.
        flipped = np.random.default_rng((9, at)).random(60)[user] < 0.5
        one, two = np.where(flipped, scores[::-1], scores)
        for told in (True, False):
            areas = delong(label, np.stack([one, two]), user=user if told else None)
            assert areas is not None
            rejected[told] += areas.test(np.array([1.0, -1.0])).p < 0.05
    assert rejected[True] <= 0.1 * 150
    assert rejected[False] > 2 * rejected[True]


def test_equal_scorers_have_no_difference_and_one_user_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.random(40) < 0.5, rng.normal(size=40)
    areas = delong(label, np.stack([score, score]))
    assert areas is not None
    assert areas.test(np.array([1.0, -1.0])).p == 1.0
    assert delong(label, score[None], user=np.zeros(40, dtype=int)) is None


def test_equal_scores_do_not_differ_whatever_rounding_says() -> None:
    """Means over three seeds of the same scores differ by 1e-17 or so, with an error of 0."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, label = rng.normal(size=(3, 40)), rng.random(40) < 0.5
        areas = delong(label, np.vstack([scores, scores]))
        assert areas is not None
        assert areas.test(np.repeat([1 / 3, -1 / 3], 3)).p == 1
