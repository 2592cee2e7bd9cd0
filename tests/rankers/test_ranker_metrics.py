"""AUC, GAUC, log loss, calibration and their resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from recdistill.lifetime.intervals import interval
from recdistill.rankers import metrics

LABELLED = st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=40)


def test_auc_by_hand() -> None:
    label, score = np.array([True, False, True, False]), np.array([2.0, 1.0, 1.0, 3.0])
    assert metrics.auc(label, score) == pytest.approx((1 + 0 + 0.5 + 0) / 4)


@settings(max_examples=60, deadline=None)
@given(LABELLED)
def test_auc_equals_scikit_learn_with_weights(rows: list[tuple[bool, int, int]]) -> None:
    label, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    ours = metrics.auc(label.astype(bool), score.astype(float), weight.astype(float))
    if weight[label].sum() == 0 or weight[~label].sum() == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(roc_auc_score(label, score, sample_weight=weight))


@settings(max_examples=40, deadline=None)
@given(LABELLED)
def test_user_auc_is_the_auc_of_each_users_rows(rows: list[tuple[bool, int, int]]) -> None:
    label, score, user = (np.array(column) for column in zip(*rows, strict=True))
    area, count = metrics.user_auc(user, label.astype(bool), score.astype(float), users=5)
    for one in range(5):
        own = user == one
        assert count[one] == own.sum()
        np.testing.assert_allclose(area[one], metrics.auc(label[own].astype(bool), score[own].astype(float)))


def test_gauc_weights() -> None:
    """User 0: AUC 1 from 2 rows; user 1: AUC 1/2 from 4 rows; user 2 has no negative and is left out."""
    user = np.array([0, 0, 1, 1, 1, 1, 2])
    label = np.array([1, 0, 1, 1, 0, 0, 1], dtype=bool)
    score = np.array([5.0, 1.0, 4.0, 1.0, 3.0, 2.0, 9.0])
    by_rows = metrics.gauc(user, label, score, users=3, by_rows=True)
    assert by_rows.value() == pytest.approx((1 * 2 + 0.5 * 4) / 6)
    assert by_rows.count.tolist() == [2, 4, 0]
    assert metrics.gauc(user, label, score, users=3, by_rows=False).value() == pytest.approx(0.75)


def test_log_loss_equals_scikit_learn_and_stays_finite() -> None:
    rng = np.random.default_rng(0)
    label, logit = rng.random(50) < 0.4, rng.normal(size=50)
    parts = metrics.mean_log_loss(rng.integers(7, size=50), label, logit, users=7)
    assert parts.value() == pytest.approx(log_loss(label, 1 / (1 + np.exp(-logit))))
    np.testing.assert_allclose(metrics.log_loss(np.array([True, False]), np.array([-800.0, 800.0])), 800.0)


def test_calibration_by_hand() -> None:
    """Predicted .25 and .75 twice each: bins of two rows hold .5 − 0 and 1.5 − 1 too much."""
    label, logit = np.array([False, True, False, False]), np.log([1 / 3, 3, 1 / 3, 3])
    assert metrics.calibration(np.zeros(4, dtype=int), label, logit, users=1).value() == pytest.approx(2.0)
    assert metrics.expected_calibration_error(label, logit, bins=2) == pytest.approx((0.5 + 0.5) / 4)
    assert metrics.expected_calibration_error(label, logit, bins=9) == pytest.approx((0.25 + 0.25 + 0.25 + 0.75) / 4)


def test_calibration_error_is_near_zero_for_true_probabilities_and_sees_a_shift() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=40_000)
    label = rng.random(40_000) < metrics.probability(logit)
    assert metrics.expected_calibration_error(label, logit) < 0.015
    shifted = metrics.expected_calibration_error(label, logit + 0.5)
    mean_shift = (metrics.probability(logit + 0.5) - metrics.probability(logit)).mean()
    assert shifted == pytest.approx(mean_shift, rel=0.1)
    assert np.isfinite(metrics.probability(np.array([-800.0, 800.0]))).all()


def _bootstrap(draws: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    user, label = rng.integers(2, 9, size=80), rng.random(80) < 0.5
    scores = rng.normal(size=(2, 80)) + np.array([[0.0], [1.0]]) * label
    parts = [
        {
            "gauc": metrics.gauc(user, label, one, users=12, by_rows=True),
            "logloss": metrics.mean_log_loss(user, label, one, users=12),
            "calibration": metrics.calibration(user, label, one, users=12),
        }
        for one in scores
    ]
    return metrics.bootstrap(user, label, scores, parts=parts, draws=draws, seed=4)


def test_a_draw_equals_repeating_the_drawn_users_rows() -> None:
    rng = np.random.default_rng(1)
    user, label = rng.integers(2, 9, size=80), rng.random(80) < 0.5
    scores = rng.normal(size=(2, 80)) + np.array([[0.0], [1.0]]) * label
    drawn = _bootstrap()
    for at in range(3):
        picked = np.random.default_rng((4, at)).integers(7, size=7) + 2
        rows = np.concatenate([np.flatnonzero(user == one) for one in picked])
        assert drawn["auc"][1, at] == pytest.approx(roc_auc_score(label[rows], scores[1, rows]))
        own = [(roc_auc_score(label[user == u], scores[1, user == u]), (user == u).sum()) for u in picked]
        assert drawn["gauc"][1, at] == pytest.approx(sum(a * n for a, n in own) / sum(n for _, n in own))
        assert drawn["logloss"][1, at] == pytest.approx(metrics.log_loss(label[rows], scores[1, rows]).mean())
        predicted = metrics.probability(scores[1, rows]).sum()
        assert drawn["calibration"][1, at] == pytest.approx(predicted / label[rows].sum())


def test_draws_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _bootstrap()
    monkeypatch.setattr(metrics, "_BLOCK", 200)
    blocked = _bootstrap()
    np.testing.assert_allclose(blocked["auc"], whole["auc"], rtol=1e-12)
    np.testing.assert_allclose(blocked["gauc"], whole["gauc"], rtol=1e-6)


def test_interval_covers_the_truth_and_knows_when_it_cannot_say() -> None:
    drawn = _bootstrap(draws=400)
    low, high = interval(drawn["auc"][1]) or (np.nan, np.nan)
    assert 0.5 < low < np.median(drawn["auc"][1]) < high < 1
    assert interval(np.array([0.5, np.nan])) is None


def test_resampled_ratio_of_a_constant_is_that_constant() -> None:
    count = np.array([1.0, 2.0, 0.0, 5.0])
    np.testing.assert_allclose(metrics.resample_ratio(0.3 * count, count, draws=20, seed=0), 0.3)
