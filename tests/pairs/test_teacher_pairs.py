"""Pairs of a teacher's space: cosines by hand, support, ids it does not share, partners of a cluster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair_worlds import catalogue, listed

from recdistill.contracts.tables import EmbeddingTable
from recdistill.pairs.config import IdClusterConfig, TeacherSpaceConfig
from recdistill.pairs.id_cluster import id_cluster, partners
from recdistill.pairs.teacher_space import teacher_space

IDS = list("abcde")


def around(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_nearest_by_cosine_of_centred_directions(tmp_path):
    # The mean of these four directions is zero; lengths do not count.
    vectors = around(0, 30, 180, 210) * np.array([[1], [5], [2], [1]], dtype=np.float32)
    teacher = EmbeddingTable(pd.Index(IDS[:4]), vectors)
    found = teacher_space(TeacherSpaceConfig(neighbours=2), catalogue(tmp_path, IDS), teacher, seed=0)
    near = pytest.approx(np.cos(np.deg2rad(30)), abs=1e-6)
    assert listed(found) == {("a", "b"): near, ("b", "a"): near, ("c", "d"): near, ("d", "c"): near}


def test_a_common_direction_is_no_likeness(tmp_path):
    shifted = np.hstack([around(0, 30, 180, 210), np.full((4, 1), 10.0, dtype=np.float32)])
    teacher = EmbeddingTable(pd.Index(IDS[:4]), shifted)
    found = teacher_space(TeacherSpaceConfig(neighbours=3), catalogue(tmp_path, IDS), teacher, seed=0)
    assert set(listed(found)) == {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}


def test_items_with_little_support_and_unknown_ones_are_left_out(tmp_path):
    support = np.array([9, 9, 4, 9, 9])
    teacher = EmbeddingTable(pd.Index(["a", "b", "c", "x", "y"]), around(0, 10, 5, 1, 180), support)
    of = catalogue(tmp_path, IDS)
    assert {item for pair in listed(teacher_space(TeacherSpaceConfig(), of, teacher, seed=0)) for item in pair} <= {
        "a",
        "b",
    }
    assert set(listed(id_cluster(IdClusterConfig(), of, teacher, seed=0))) == {("a", "b"), ("b", "a")}
    for found in (
        teacher_space(TeacherSpaceConfig(min_support=10), of, teacher, seed=0),
        id_cluster(IdClusterConfig(min_support=10), of, teacher, seed=0),
    ):
        assert not len(found) and "fewer than two" in found.why
    stranger = EmbeddingTable(pd.Index([1, 2, 3]), around(0, 1, 2))
    assert not len(teacher_space(TeacherSpaceConfig(), of, stranger, seed=0))
    assert not len(id_cluster(IdClusterConfig(), of, stranger, seed=0))


def test_as_many_items_ask_as_the_pairs_kept_need(tmp_path):
    ids = [f"i{row:02d}" for row in range(40)]
    teacher = EmbeddingTable(pd.Index(ids), np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    found = teacher_space(TeacherSpaceConfig(max_pairs=30, neighbours=5), catalogue(tmp_path, ids), teacher, seed=1)
    assert len(np.unique(found.query.rows)) == 6 and len(found) <= 30


def test_clusters_are_found(tmp_path):
    ids = [f"i{row:02d}" for row in range(40)]
    side = np.arange(40) % 2
    vectors = np.eye(2)[side] + np.random.default_rng(0).normal(0, 0.01, (40, 2))
    teacher = EmbeddingTable(pd.Index(ids), vectors.astype(np.float32))
    found = id_cluster(IdClusterConfig(clusters=2, partners=3), catalogue(tmp_path, ids), teacher, seed=0)
    assert len(found) == 120 and (side[found.query.rows] == side[found.target.rows]).all()
    assert found.score is None and found.about == {"clusters": 2}


@given(cluster=st.lists(st.integers(-1, 3), max_size=20), count=st.integers(1, 6), seed=st.integers(0, 99))
def test_partners_are_others_of_the_cluster_as_many_as_there_are(cluster, count, seed):
    cluster = np.array(cluster, dtype=np.int64)
    draw = np.random.default_rng(seed).integers(0, 2**63, len(cluster)).astype(np.uint64)
    query, target = partners(cluster, draw=draw, count=count)
    assert (query != target).all() and (cluster[query] == cluster[target]).all() and (cluster[query] >= 0).all()
    assert len(set(zip(query.tolist(), target.tolist(), strict=True))) == len(query)
    sizes = np.bincount(cluster[cluster >= 0], minlength=4)
    for item, of in enumerate(cluster):
        expected = min(count, sizes[of] - 1) if of >= 0 else 0
        assert (query == item).sum() == (target == item).sum() == expected
