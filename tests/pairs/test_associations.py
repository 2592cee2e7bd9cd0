"""Items that meet in groups: scores by hand, popularity, caps, and independence of blocks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_worlds import make_log
from scipy import sparse

from recdistill.pairs import nearest as nearest_module
from recdistill.pairs.associations import associated
from recdistill.pairs.session import sessions
from recdistill.retrieval.hashing import hash_ids
from recdistill.retrieval.incidence import incidence


def of_sets(sets: list[set[int]], items: int) -> sparse.csr_matrix:
    dense = np.zeros((len(sets), items))
    for row, members in enumerate(sets):
        dense[row, list(members)] = 1
    return sparse.csr_matrix(dense)


def found(matrix: sparse.csr_matrix, **changes) -> dict[tuple[int, int], float]:
    asked = {"neighbours": 5, "min_together": 1, "shrinkage": 0.0} | changes
    hashes = hash_ids(pd.Index(range(matrix.shape[1])))
    query, target, score = associated(matrix, item_hashes=hashes, seed=0, **asked)
    assert (np.diff(query) >= 0).all() and (query != target).all()
    return {pair: value for *pair, value in zip(query, target, score, strict=True) for pair in [tuple(pair)]}


def test_npmi_by_hand():
    matrix = of_sets([{0, 1}, {0, 1}, {0, 2}, {3}, set()], 4)  # four groups have anything
    near = math.log(2 * 4 / (3 * 2)) / math.log(4 / 2)
    once = math.log(1 * 4 / (3 * 1)) / math.log(4 / 1)
    assert found(matrix) == pytest.approx({(0, 1): near, (0, 2): once, (1, 0): near, (2, 0): once})
    shrunk = {(0, 1): near / 2, (0, 2): once / 3, (1, 0): near / 2, (2, 0): once / 3}
    assert found(matrix, shrinkage=2.0) == pytest.approx(shrunk)
    assert set(found(matrix, min_together=2)) == {(0, 1), (1, 0)}
    assert set(found(matrix, neighbours=1)) == {(0, 1), (1, 0), (2, 0)}


def test_always_together_and_never_apart_is_one():
    assert found(of_sets([{0, 1}, {0, 1}, {2}], 3)) == pytest.approx({(0, 1): 1.0, (1, 0): 1.0})


def test_what_everybody_has_goes_with_nothing():
    assert found(of_sets([{0, 1, 2}, {0, 1}], 3)) == {}
    assert found(sparse.csr_matrix((0, 3))) == found(sparse.csr_matrix((3, 0))) == {}


def test_popularity_does_not_dominate():
    rng = np.random.default_rng(0)
    dense = np.zeros((400, 30))
    dense[:, :6] = rng.random((400, 6)) < 0.7  # blockbusters, independent of everything
    for item in range(6, 30, 2):  # twins
        fans = rng.choice(400, 12, replace=False)
        dense[fans, item] = 1
        dense[fans[:9], item + 1] = 1
    near = found(sparse.csr_matrix(dense), neighbours=1, min_together=3, shrinkage=5.0)
    together = dense.T @ dense
    np.fill_diagonal(together, 0)
    twins = list(range(6, 30))
    assert all((item, item ^ 1) in near for item in twins)
    assert (together[twins].argmax(axis=1) < 6).mean() > 0.5  # by count the blockbusters would be the nearest


@settings(deadline=None, max_examples=40)
@given(sets=st.lists(st.sets(st.integers(0, 7)), max_size=12), entries=st.integers(1, 20), neighbours=st.integers(1, 4))
def test_blocks_change_nothing_and_scores_are_shares(sets, entries, neighbours):
    matrix = of_sets(sets, 8) if sets else sparse.csr_matrix((0, 8))
    whole = found(matrix, neighbours=neighbours)
    assert all(0 < score <= 1 + 1e-12 for score in whole.values())
    before = nearest_module._ENTRIES
    nearest_module._ENTRIES = entries
    try:
        assert found(matrix, neighbours=neighbours) == whole
    finally:
        nearest_module._ENTRIES = before


@given(order=st.permutations(range(6)))
def test_a_groups_drawn_items_do_not_depend_on_numbering(order):
    ids, order = pd.Index([f"i{n}" for n in range(6)]), np.array(order)
    group = np.zeros(6, dtype=np.int64)
    of = {"group_hashes": hash_ids(pd.Index(["g"])), "most": 2, "seed": 3}
    plain = incidence(group, np.arange(6), item_hashes=hash_ids(ids), **of)
    other = incidence(group, np.argsort(order), item_hashes=hash_ids(ids[order]), **of)
    assert plain.sum() == 2 and {*ids[plain.indices]} == {*ids[order][other.indices]}


def test_sessions_end_at_a_longer_pause_and_with_the_user():
    log = make_log([(0, 0, 0), (0, 1, 10), (0, 2, 21), (1, 3, 22)], items=4)
    number, starts = sessions(log, gap=10_000_000)
    assert number.tolist() == [0, 0, 1, 2] and starts.tolist() == [0, 2, 3]
    number, starts = sessions(log.take(np.zeros(4, dtype=bool)), gap=1)
    assert len(number) == len(starts) == 0
