"""What erasing, regressing and whitening leave of a space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from recdistill.features.transforms import erase, residual, whiten

RNG = np.random.default_rng(0)
ITEMS = 200
ALL = np.ones(ITEMS, dtype=bool)


def _explained(vectors: np.ndarray, wanted: np.ndarray) -> float:
    return float(LinearRegression().fit(vectors, wanted).score(vectors, wanted))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_no_linear_predictor_is_left(seed: int, quantities: int) -> None:
    """Although the quantity is spread over correlated directions, which projecting one of them away would leave."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ITEMS, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    wanted = vectors @ rng.normal(size=(6, quantities)) + 0.1 * rng.normal(size=(ITEMS, quantities))
    assert _explained(vectors, wanted) > 0.5
    assert _explained(erase(vectors, wanted, fitted=ALL), wanted) < 1e-4


def test_erasing_by_hand_takes_one_axis() -> None:
    """Uncorrelated axes of which one is the quantity: the others stay as they are, and so does the mean."""
    axes = np.array([[1.0, 1, 3], [1, -1, 3], [-1, 1, 3], [-1, -1, 3]])
    left = erase(axes, 2 * axes[:, :1] + 5, fitted=np.ones(4, dtype=bool))
    np.testing.assert_allclose(left, axes * [0, 1, 1], atol=1e-6)


def test_what_does_not_predict_stays() -> None:
    vectors = RNG.normal(size=(ITEMS, 5))
    noise = RNG.normal(size=(ITEMS, 1))
    moved = np.linalg.norm(erase(vectors, noise, fitted=ALL) - vectors)
    told = np.linalg.norm(erase(vectors, vectors[:, :1], fitted=ALL) - vectors)
    assert np.linalg.matrix_rank(erase(vectors, vectors[:, :1], fitted=ALL) - vectors, tol=1e-4) == 1
    assert 0 < moved <= 1.2 * told


def test_items_outside_the_fit_do_not_change_it() -> None:
    vectors, wanted = RNG.normal(size=(ITEMS, 5)), RNG.normal(size=(ITEMS, 1))
    fitted = np.arange(ITEMS) < 150
    other = vectors.copy()
    other[~fitted] *= 40
    for change in (
        lambda v: erase(v, wanted, fitted=fitted),
        lambda v: residual(v, np.where(fitted[:, None], v[:, :2] ** 3, 1.0), fitted=fitted),
        lambda v: whiten(v, power=0.5, fitted=fitted),
    ):
        np.testing.assert_array_equal(change(vectors)[fitted], change(other)[fitted])


def test_residual_is_what_the_other_space_does_not_know() -> None:
    given_, own = RNG.normal(size=(ITEMS, 4)), RNG.normal(size=(ITEMS, 3))
    known = given_ @ RNG.normal(size=(4, 3))
    left = residual(known + own, given_, fitted=ALL)
    assert np.linalg.norm(residual(known, given_, fitted=ALL)) < 0.02 * np.linalg.norm(known)
    assert abs(np.corrcoef(left.ravel(), own.ravel())[0, 1]) > 0.97
    assert _explained(given_, left) < 1e-3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_whitening_divides_by_the_deviation(power: float) -> None:
    deviation = np.array([9.0, 4.0, 1.0])
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    scores = np.linalg.qr(RNG.normal(size=(ITEMS, 3)) - 0)[0]
    scores -= scores.mean(axis=0)
    scores = np.linalg.qr(scores)[0] * np.sqrt(ITEMS)
    found = whiten((scores * deviation) @ turn + 7, power=power, fitted=ALL)
    np.testing.assert_allclose(found, (scores * deviation ** (1 - power)) @ turn, atol=2e-5)


def test_whitening_leaves_directions_that_no_item_spans_empty() -> None:
    flat = np.hstack([RNG.normal(size=(ITEMS, 2)), np.zeros((ITEMS, 2))]) @ RNG.normal(size=(4, 4))
    found = whiten(flat, power=1.0, fitted=ALL)
    assert np.linalg.matrix_rank(found, tol=1e-3) == 2
    assert np.linalg.norm(found, axis=1).max() < 10
