"""Metrics: golden values, common properties, and a declared direction for each."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.evaluation import metrics
from recdistill.evaluation.metrics import (
    DIRECTIONS,
    bijective_accuracy,
    direction,
    kendall_tau,
    mrr,
    ndcg_at_k,
    nmi,
    overlap_coefficient,
    recall_at_k,
    topk_overlap,
)

ranks = st.lists(st.integers(2, 400).map(lambda half: half / 2), min_size=1, max_size=30).map(np.array)
seeds = st.integers(0, 10_000)


def test_every_metric_is_classified() -> None:
    functions = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name)) and name != "direction"]
    assert len(functions) == 8
    for name in functions:
        assert direction(name) in ("higher", "lower"), name
        assert inspect.signature(getattr(metrics, name)).return_annotation == "float"


def test_direction_ignores_cutoffs_and_candidates() -> None:
    assert direction("recall_at_25_among_cold") == "higher"
    assert direction("logloss_delta") == "lower"
    assert direction("topk_overlap_at_10") == "higher"
    with pytest.raises(KeyError):
        direction("surprise_at_10")
    assert set(DIRECTIONS.values()) == {"higher", "lower"}


def test_golden_values_of_ranks() -> None:
    found = np.array([1.0, 2.5, 10.0, 11.0])
    assert recall_at_k(found, k=10) == 0.75
    assert mrr(found) == pytest.approx((1 + 1 / 2.5 + 1 / 10 + 1 / 11) / 4)
    assert ndcg_at_k(found, k=10) == pytest.approx((1 + 1 / np.log2(3.5) + 1 / np.log2(11)) / 4)
    # Two lists: hits at 1 and 3 of two relevant; none of one.
    ideal = 1 + 1 / np.log2(3)
    assert ndcg_at_k(np.array([3.0, 1.0, 50.0]), k=10, lists=np.array([4, 4, 7])) == pytest.approx(1.5 / ideal / 2)


@settings(max_examples=50, deadline=None)
@given(found=ranks, k=st.integers(1, 50))
def test_metrics_of_ranks_are_shares_that_grow_with_k_and_ignore_order(found: np.ndarray, k: int) -> None:
    for metric in (recall_at_k, ndcg_at_k):
        assert 0 <= metric(found, k=k) <= metric(found, k=k + 1) <= 1
        assert metric(found[::-1], k=k) == pytest.approx(metric(found, k=k))
        assert metric(found + 1, k=k) <= metric(found, k=k)
    assert ndcg_at_k(found, k=k) <= recall_at_k(found, k=k)
    assert 0 < mrr(found) <= 1


def test_no_cases_have_no_value() -> None:
    nothing = np.empty(0)
    assert all(np.isnan(value) for value in (recall_at_k(nothing, k=1), ndcg_at_k(nothing, k=1), mrr(nothing)))


def test_golden_values_of_spaces() -> None:
    first = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert kendall_tau(first, np.array([[40.0, 30.0, 10.0, 20.0]])) == pytest.approx(4 / 6)
    assert kendall_tau(first, -first) == -1
    assert kendall_tau(first, np.ones((1, 4))) == 0
    assert topk_overlap(first, np.array([[1.0, 9.0, 8.0, 2.0]]), k=2) == 0.5
    assert topk_overlap(first, np.ones((1, 4)), k=2) == 0
    # Query 0 and target 0 choose each other; query 1 prefers target 0; query 2 ties.
    assert bijective_accuracy(np.array([[9.0, 1.0, 0.0], [8.0, 2.0, 0.0], [1.0, 1.0, 0.0]])) == pytest.approx(1 / 3)
    # Nearest neighbours that choose each other need not be the true pair.
    assert bijective_accuracy(np.array([[0.0, 1.0], [1.0, 0.0]])) == 1
    assert nmi(np.array([5, 5, 7, 7]), np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert nmi(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx(0)
    assert overlap_coefficient(np.array([0.0, 1.0]), np.array([10.0, 11.0])) == 0
    assert overlap_coefficient(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])) == pytest.approx(0.75)
    assert overlap_coefficient(np.ones(3), np.ones(4)) == 1


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_space_agrees_with_itself_under_any_monotone_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(4, 9))
    assert kendall_tau(scores, np.exp(scores)) == pytest.approx(1)
    assert topk_overlap(scores, 2 * scores - 1, k=3) == 1
    other = rng.normal(size=(4, 9))
    assert kendall_tau(scores, other) == pytest.approx(kendall_tau(other, scores))
    assert topk_overlap(scores, other, k=3) == topk_overlap(other, scores, k=3)
    square = rng.normal(size=(6, 6))
    assert bijective_accuracy(square + 100 * np.eye(6)) == 1
    assert bijective_accuracy(square) == pytest.approx(bijective_accuracy(square.T))
    clusters = rng.integers(0, 3, 20)
    assert nmi(clusters, (clusters + 1) % 3) == pytest.approx(1)
    assert overlap_coefficient(scores[0], scores[0]) == pytest.approx(1)
