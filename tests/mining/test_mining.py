"""Mining: the strict past, each perspective's rule by hand, the funnel's sums, and independence of blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.mining.candidates import candidate_blocks, choose_targets
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import mine_pairs
from recdistill.mining.knowledge import Knowledge, content_vectors, item_keys
from recdistill.mining.order import best_per_owner, lower_is_better, stable_order
from recdistill.mining.perspectives import carrying_clusters, cluster_share, jaccard
from recdistill.retrieval.clusters import clusters

LIKE, SHARE, FINISH = 1, 2, 4


def make_log(events: list[tuple[int, int, int, int]], items: int) -> Log:
    """From (user, item, time, behaviour mask)."""
    user, item, time, mask = (
        np.array(column) for column in zip(*sorted(events, key=lambda e: (e[0], e[2])), strict=True)
    )
    return Log(
        pd.Index(range(user.max() + 1)),
        pd.Index([f"i{i}" for i in range(items)]),
        user.astype(np.int32),
        item.astype(np.int32),
        time.astype(np.int64),
        mask.astype(np.int32),
        ("like", "share", "finish"),
        np.full(len(user), np.nan, np.float32),
    )


def knowledge(items: int, *, seed: int = 0) -> Knowledge:
    vectors = np.random.default_rng(seed).normal(size=(items, 4)).astype(np.float32)
    return known_of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(items) % 3)


def known_of(content: np.ndarray, cluster: np.ndarray) -> Knowledge:
    return Knowledge(content, cluster, item_keys(pd.Index([f"i{i}" for i in range(len(content))])))


def pairs_of(log, known, seed=0, **changes):
    table, funnel = mine_pairs(log, known, MiningConfig(**{"min_length": 1, **changes}), seed=seed)
    return table.to_pandas(), funnel


def test_candidates_lie_strictly_before_their_target():
    log = make_log([(0, 0, 1, LIKE), (0, 1, 5, LIKE), (0, 2, 5, LIKE), (0, 3, 6, LIKE), (1, 4, 0, LIKE)], items=5)
    (block,) = candidate_blocks(log, np.arange(5), history=1000)
    found = {
        int(target): sorted(log.item[block.event[block.owner == at]].tolist())
        for at, target in enumerate(block.targets)
    }
    assert found == {0: [], 1: [0], 2: [0], 3: [0, 1, 2], 4: []}


def test_history_counts_the_latest_events():
    log = make_log([(0, i, i, LIKE) for i in range(6)], items=6)
    (block,) = candidate_blocks(log, np.array([5]), history=2)
    assert log.item[block.event].tolist() == [3, 4]


def test_targets_are_the_latest_positives():
    log = make_log([(0, 0, 0, LIKE), (0, 1, 1, LIKE), (0, 2, 2, 0), (1, 3, 0, 0), (1, 4, 1, SHARE)], items=5)
    assert choose_targets(log, per_user=1).tolist() == [1, 4]
    assert choose_targets(log, per_user=9).tolist() == [0, 1, 4]
    assert choose_targets(log, per_user=9, behaviours=2).tolist() == []


def test_content_single_peak_takes_the_most_similar_items_with_enough_behaviours():
    angles = np.array([0.0, 0.1, 1.5, 0.2, 0.05])
    content = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    everything = LIKE | SHARE | FINISH
    log = make_log(
        [(0, 0, 9, LIKE), (0, 1, 1, everything), (0, 2, 2, everything), (0, 3, 3, everything), (0, 4, 4, LIKE)], items=5
    )
    pairs, funnel = pairs_of(
        log, known_of(content, np.zeros(5, int)), perspectives=("content_single_peak",), length=2, targets_per_user=1
    )
    # Item 4 is the nearest to the target, but has one behaviour only; 1 and 3 follow, in time order.
    assert pairs.query_item_ids.map(list).tolist() == [["i1", "i3"]] and pairs.target_item_id.tolist() == ["i0"]
    assert funnel["perspectives"]["content_single_peak"]["kept_users"] == 1


def test_content_multi_peak_keeps_items_whose_behaviours_agree_with_the_targets():
    log = make_log([(0, 0, 1, LIKE), (0, 1, 2, SHARE), (0, 2, 3, LIKE | SHARE | FINISH), (0, 3, 9, LIKE)], items=4)
    pairs, _ = pairs_of(log, knowledge(4), perspectives=("content_multi_peak",), targets_per_user=1)
    assert pairs.query_item_ids.map(list).tolist() == [["i0"]]  # Jaccard 1; 0 and 1/3 fall out


def test_collaborative_single_peak_stays_in_the_clusters_that_carry_the_user():
    log = make_log([(0, i, i, LIKE) for i in range(9)] + [(0, 10, 20, LIKE)], items=11)
    cluster = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0])
    pairs, _funnel = pairs_of(
        log,
        known_of(knowledge(11).content, cluster),
        perspectives=("collaborative_single_peak",),
        single_peak_behaviours=1,
        coverage=0.8,
        targets_per_user=1,
    )
    assert set(pairs.query_item_ids[0]) == {f"i{i}" for i in range(8)}


def test_collaborative_multi_peak_draws_in_proportion_to_the_users_clusters():
    # Nine of ten positives lie in cluster 0, and one in cluster 1; an item is then drawn evenly.
    events = [(0, i, i, LIKE) for i in range(10)] + [(0, 10, 20, LIKE)]
    log = make_log(events, items=11)
    known = known_of(knowledge(11).content, np.array([0] * 9 + [1, 0]))
    drawn = Counter(
        pairs_of(log, known, seed=seed, perspectives=("collaborative_multi_peak",), length=1, targets_per_user=1)[
            0
        ].query_item_ids[0][0]
        for seed in range(400)
    )
    assert drawn["i9"] / 400 == pytest.approx(0.1, abs=0.05)
    assert drawn["i0"] / 400 == pytest.approx(0.1, abs=0.05)


def test_what_a_user_passed_over_is_no_part_of_their_shares():
    # Eight items of cluster 0 were shown and not clicked; of the two positives one lies in each cluster.
    events = [(0, i, i, 0) for i in range(8)] + [(0, 8, 8, LIKE), (0, 9, 9, LIKE), (0, 10, 20, LIKE)]
    log = make_log(events, items=11)
    known = known_of(knowledge(11).content, np.array([0] * 9 + [1, 0]))
    drawn = Counter(
        pairs_of(log, known, seed=seed, perspectives=("collaborative_multi_peak",), length=1, targets_per_user=1)[
            0
        ].query_item_ids[0][0]
        for seed in range(400)
    )
    assert drawn["i8"] / 400 == pytest.approx(0.5, abs=0.08)
    single, _ = pairs_of(
        log, known, perspectives=("collaborative_single_peak",), single_peak_behaviours=1, targets_per_user=1
    )
    assert single.query_item_ids.map(list).tolist() == [["i8", "i9"]]  # cluster 0 alone does not carry the user


def test_what_a_user_passed_over_does_not_use_up_the_history():
    events = [(0, 0, 0, LIKE), (0, 1, 1, LIKE), *((0, 2 + i, 2 + i, 0) for i in range(8)), (0, 10, 20, LIKE)]
    pairs, _ = pairs_of(
        make_log(events, items=11), knowledge(11), perspectives=("content_multi_peak",), history=2, targets_per_user=1
    )
    assert pairs.query_item_ids.map(list).tolist() == [["i0", "i1"]]


@pytest.mark.parametrize(
    ("kinds", "asked", "used"), [(1, None, 1), (2, None, 2), (3, None, 3), (4, None, 3), (0, None, 1), (1, 3, 3)]
)
def test_single_peaks_ask_for_no_more_behaviours_than_the_log_has(kinds, asked, used):
    labels = ("like", "share", "finish", "comment")[:kinds]
    every = 2**kinds - 1
    log = replace(make_log([(0, i, i, every) for i in range(6)], items=6), behaviour_names=labels)
    pairs, funnel = pairs_of(log, knowledge(6), targets_per_user=1, single_peak_behaviours=asked)
    assert funnel["single_peak_behaviours"] == used and funnel["behaviours"] == list(labels)
    single = {"content_single_peak", "collaborative_single_peak"}
    assert (single <= set(pairs.perspective)) == (1 <= used <= kinds)


def test_every_target_is_kept_or_lost_for_one_reason():
    rng = np.random.default_rng(3)
    log = make_log(
        [
            (int(rng.integers(8)), int(rng.integers(30)), int(rng.integers(100)), int(rng.integers(8)))
            for _ in range(400)
        ],
        items=30,
    )
    _, funnel = pairs_of(log, knowledge(30), min_length=3, single_peak_behaviours=2)
    for stage in funnel["perspectives"].values():
        assert stage["kept_pairs"] + sum(stage["lost"].values()) == stage["targets"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_pairs_use_the_strict_past_of_their_own_user_and_no_item_twice(seed):
    rng = np.random.default_rng(seed)
    events = [
        (int(rng.integers(5)), int(rng.integers(12)), int(rng.integers(20)), int(rng.integers(8))) for _ in range(120)
    ]
    log = make_log(events, items=12)
    pairs, _ = pairs_of(log, knowledge(12), single_peak_behaviours=1, length=4)
    earliest: dict[tuple[int, str], int] = {}
    for user, item, time, _ in events:
        earliest[user, f"i{item}"] = min(time, earliest.get((user, f"i{item}"), time))
    for row in pairs.itertuples():
        query = list(row.query_item_ids)
        assert len(query) == len(set(query)) <= 4 and row.target_item_id not in query
        assert all(earliest[row.user_id, item] < row.timestamp.value // 1000 for item in query)


def test_filters_do_not_depend_on_the_blocks():
    rng = np.random.default_rng(0)
    log = make_log(
        [(int(rng.integers(6)), int(rng.integers(20)), int(rng.integers(50)), 1) for _ in range(200)], items=20
    )
    targets = choose_targets(log, per_user=100)
    whole = list(candidate_blocks(log, targets, history=10))
    small = list(candidate_blocks(log, targets, history=10, block=7, block_targets=3))
    assert len(whole) == 1 < len(small)
    assert np.concatenate([b.event for b in small]).tolist() == whole[0].event.tolist()
    assert np.concatenate([b.targets[b.owner] for b in small]).tolist() == whole[0].targets[whole[0].owner].tolist()


def test_best_per_owner_by_hand():
    owner = np.array([0, 0, 0, 0, 2, 2])
    best = best_per_owner(owner, lower_is_better(np.array([0.1, 0.5, 0.9, 0.5, -np.inf, 0.0])), owners=3, count=3)
    assert best.tolist() == [2, 1, 3, 5, 4]
    assert best_per_owner(owner[:0], np.empty(0, np.uint32), owners=3, count=3).tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5, width=32)), min_size=1, max_size=40), st.integers(1, 5))
def test_best_per_owner_equals_a_plain_sort(entries, count):
    entries = sorted(entries, key=lambda entry: entry[0])
    owner, score = (np.array(column) for column in zip(*entries, strict=True))
    plain = []
    for one in np.unique(owner):
        rows = np.flatnonzero(owner == one)
        plain += rows[np.argsort(-score[rows], kind="stable")][:count].tolist()
    assert best_per_owner(owner, lower_is_better(score), owners=5, count=count).tolist() == plain


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**60), max_size=30), st.sampled_from([61, 64]))
def test_packed_and_plain_order_agree(keys, bits):
    key = np.array(keys, dtype=np.uint64)
    small = key >> np.uint64(50)  # ten bits: packed; and as wide as said: not
    assert stable_order(key, bits=bits).tolist() == np.argsort(key, kind="stable").tolist()
    assert stable_order(small, bits=11).tolist() == np.argsort(small, kind="stable").tolist()


def test_shares_and_coverage_by_hand():
    share = cluster_share(np.array([0, 0, 0, 1]), np.array([1, 1, 0, -1]), 2, 2)
    assert share.tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3)], [0, 0]]
    assert carrying_clusters(share, coverage=0.6).tolist() == [[False, True], [False, False]]
    assert carrying_clusters(share, coverage=0.7).tolist() == [[True, True], [False, False]]


def test_jaccard_by_hand():
    assert jaccard(np.array([3, 1, 0]), np.array([1, 2, 0])).tolist() == [0.5, 0.0, 0.0]


def test_clusters_follow_the_teacher_and_leave_unknown_items_out():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    table = EmbeddingTable(pd.Index([f"i{i}" for i in range(20)]), vectors)
    found = clusters(table, pd.Index([*(f"i{i}" for i in range(20)), "new"]), count=64, seed=0)
    assert found[-1] == -1 and len(set(found[:10])) == 1 and len(set(found[10:20])) == 1 and found[0] != found[10]


def test_narrower_content_keeps_the_nearest_items_near():
    rng = np.random.default_rng(0)
    low = rng.normal(size=(200, 8)) @ rng.normal(size=(8, 60))  # rank 8 within 60 columns
    table = EmbeddingTable(pd.Index(range(200)), low.astype(np.float32))
    narrow = content_vectors(table, table.ids, width=8, seed=0)
    unit = low / np.linalg.norm(low, axis=1, keepdims=True)
    assert narrow.shape == (200, 8)
    assert np.allclose(narrow @ narrow.T, unit @ unit.T, atol=1e-4)
