"""Sinkhorn against hand and POT, and weights of datasets whose place is planted."""

import math

import numpy as np
import ot
import pytest

from recdistill.pretrain.balancing import balance, centroids, similarity, sinkhorn

SETTINGS = {"clusters": 5, "regularisation": 0.05, "temperature": 0.1, "seed": 0}


def around(direction: int, rows: int, seed: int) -> np.ndarray:
    """Embeddings of several small groups near one axis."""
    random = np.random.default_rng(seed)
    groups = np.eye(8)[direction] + 0.3 * random.normal(size=(5, 8))
    return groups[random.integers(5, size=rows)] + 0.05 * random.normal(size=(rows, 8))


def test_sinkhorn_by_hand():
    plan = sinkhorn(np.array([[0.0, 1.0], [1.0, 0.0]]), regularisation=0.5)
    kept = 0.5 / (1 + math.exp(-2))  # the plan is symmetric, and kept / moved = exp(1 / 0.5)
    np.testing.assert_allclose(plan, [[kept, 0.5 - kept], [0.5 - kept, kept]])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (5, 1), (3, 3), (2, 6), (7, 5)])
@pytest.mark.parametrize("regularisation", [0.1, 0.3, 2.0])
def test_sinkhorn_equals_pot(rows, columns, regularisation):
    cost = np.random.default_rng(10 * rows + columns).uniform(0, 2, size=(rows, columns))
    plan = sinkhorn(cost, regularisation=regularisation, iterations=3000, tolerance=1e-10)
    peer = ot.sinkhorn(
        np.full(rows, 1 / rows), np.full(columns, 1 / columns), cost, regularisation, method="sinkhorn_log",
        numItermax=3000, stopThr=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(plan, peer, atol=1e-6)
    np.testing.assert_allclose(plan.sum(0), 1 / columns)
    np.testing.assert_allclose(plan.sum(1), 1 / rows, atol=1e-6)


def test_little_regularisation_gives_the_exact_plan_without_overflow():
    cost = np.random.default_rng(1).uniform(0, 2, size=(6, 6))
    exact = ot.emd(np.full(6, 1 / 6), np.full(6, 1 / 6), cost)
    plan = sinkhorn(cost, regularisation=5e-3)
    assert (plan * cost).sum() == pytest.approx((exact * cost).sum(), abs=5e-3)


def test_similarity_by_hand():
    axes = np.eye(2)
    # Little regularisation: each centroid goes to its equal, whatever its row; opposite ones are at cosine −1.
    assert similarity(axes, 3 * axes[::-1], regularisation=0.01) == pytest.approx(1.0)
    assert similarity(axes[:1], -axes[:1], regularisation=0.01) == pytest.approx(-1.0)
    # Much regularisation: the plan is even, and half of the mass meets its equal.
    assert similarity(axes, axes, regularisation=1e3) == pytest.approx(0.5, abs=1e-3)


def test_centroids_of_few_embeddings_are_the_embeddings():
    sample = np.array([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.0, 0.0]])
    found = centroids(sample, count=10, seed=0)
    assert sorted(found.tolist()) == [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]


def test_the_set_that_is_like_the_validation_weighs_most():
    validation = {"near": around(0, 300, seed=1)}
    training = {"far": around(3, 300, seed=2), "same": around(0, 400, seed=1), "mixed": around(3, 200, seed=2)}
    training["mixed"] = np.concatenate([training["mixed"], around(0, 200, seed=1)])
    weights = balance(training, validation, **SETTINGS)
    assert list(weights) == list(training)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["same"] > weights["mixed"] > weights["far"] > 0
    assert balance(training, validation, **SETTINGS) == weights


def test_validation_sets_count_alike_and_order_does_not():
    first, second = around(0, 300, seed=1), around(3, 300, seed=2)
    training = {"first": first, "second": second}
    validation = {"a": first, "b": second[:100]}
    weights = balance(training, validation, **SETTINGS)
    assert weights["first"] == pytest.approx(0.5, abs=0.1)
    swapped = balance(dict(reversed(training.items())), dict(reversed(validation.items())), **SETTINGS)
    assert {name: pytest.approx(value) for name, value in weights.items()} == swapped


def test_weights_by_hand():
    training = {"same": np.array([[1.0, 0.0]]), "across": np.array([[0.0, 2.0]])}
    weights = balance(training, {"goal": np.array([[3.0, 0.0]])}, **SETTINGS | {"temperature": 0.5})
    assert weights["same"] == pytest.approx(1 / (1 + math.exp(-2)))  # similarities 1 and 0


@pytest.mark.parametrize(("training", "validation"), [({}, {"a": np.eye(2)}), ({"a": np.eye(2)}, {})])
def test_nothing_to_balance_is_refused(training, validation):
    with pytest.raises(ValueError, match="balancing needs"):
        balance(training, validation, **SETTINGS)
