"""Hard negatives of interest pairs: near, below the threshold, and nobody's positive."""

from __future__ import annotations

import math

import numpy as np
import torch
from topical_world import ITEMS, TOPIC, TopicalWorld, step_of

from recdistill.distill.config import HardNegatives
from recdistill.distill.heads import MeanHead
from recdistill.distill.negatives import NegativeMiner
from recdistill.distill.pairs import InterestPairs
from recdistill.training import step_generator


def mined(world: TopicalWorld, **settings: int) -> tuple[NegativeMiner, InterestPairs, torch.Tensor]:
    log = world.fold.training("selection")
    pairs = InterestPairs(world.root / "mine" / "selection" / "interest_pairs.parquet", log, history_power=0.0)
    torch.manual_seed(0)
    topics = torch.nn.functional.one_hot(torch.from_numpy(TOPIC), 8)
    vectors = torch.nn.functional.normalize(topics + 0.3 * torch.randn(ITEMS, 8), dim=1)
    miner = NegativeMiner(HardNegatives(**settings), pairs, seed=0)
    miner.refresh(vectors, MeanHead(), 0, coming=torch.arange(len(pairs)))
    return miner, pairs, vectors


def test_they_are_the_nearest_targets_below_the_threshold_that_are_no_positive(world: TopicalWorld):
    miner, pairs, vectors = mined(world, count=3)
    assert -1 < miner.threshold < 1
    queries = MeanHead()(vectors[pairs.query.long().clamp_min(0)], pairs.query >= 0)
    cosine = torch.nn.functional.normalize(queries, dim=1) @ vectors.T
    out = pairs.positive(pairs.user, torch.arange(ITEMS)) | (cosine >= miner.threshold)
    out |= torch.isneginf(pairs.log_q)
    expected = cosine.masked_fill(out, -math.inf).topk(3, dim=1)
    expected = torch.where(expected.values > -math.inf, expected.indices, -1)
    assert torch.equal(miner.state_dict()["mined"].long(), expected)
    assert (expected >= 0).float().mean() > 0.5


def test_a_batch_has_those_of_its_pairs_once_and_no_target_among_them(world: TopicalWorld):
    miner, pairs, _ = mined(world, count=3)
    batch = pairs.draw(40, step_generator(0, 0))
    found = miner.of(batch)
    own = set(miner.state_dict()["mined"][batch.place].flatten().tolist()) - {-1}
    assert found.tolist() == sorted(own - set(batch.target.tolist())) and len(found)


def test_it_mines_for_the_pairs_that_come_and_no_more_than_asked(world: TopicalWorld):
    miner, pairs, vectors = mined(world, count=1, queries=20)
    coming, mine = torch.arange(0, len(pairs), 3), []
    for step, given in ((0, coming), (100, coming), (200, coming[:10])):
        miner.refresh(vectors, MeanHead(), step, coming=given.repeat(2))
        mine.append(set((miner.state_dict()["mined"].flatten() >= 0).nonzero().flatten().tolist()))
    assert all(found <= set(coming.tolist()) and 10 < len(found) <= 20 for found in mine[:2])
    assert mine[0] != mine[1] and len(mine[2]) > 0 and mine[2] <= set(coming[:10].tolist())


def test_the_pairs_of_every_step_have_been_mined_for(world: TopicalWorld, tmp_path):
    # As many as three steps meet are mined for: of pairs drawn at random, a step would meet few.
    few = {"count": 2, "refresh_every": 3, "queries": 24}
    training, found = world.training({"hard_negatives": few}, batch_size=8, steps=9), []
    with step_of(training, tmp_path) as step:
        for at in range(7):
            step(at)
            drawn = step._draw(at).pairs
            assert drawn is not None
            found += (step.negatives.state_dict()["mined"][drawn.place, 0] >= 0).tolist()
    assert np.mean(found) > 0.5 > 5 * 24 / len(training.pairs)


def test_steps_without_pairs_mine_nothing(world: TopicalWorld, tmp_path):
    phases = [{"share": 0.5, "objectives": ["item_to_item"]}, {"share": 0.5, "objectives": ["sequence_to_item"]}]
    training = world.training({"hard_negatives": {"count": 2, "refresh_every": 2}, "phases": phases}, steps=8)
    with step_of(training, tmp_path) as step:
        found = []
        for at in range(8):
            step(at)
            found.append(math.isnan(step.negatives.threshold))
    assert found == [True] * 4 + [False] * 4


def test_none_are_due_where_none_are_asked_for(world: TopicalWorld):
    _, pairs, _ = mined(world, count=1)
    assert not NegativeMiner(HardNegatives(), pairs, seed=0).due(0)
    every = NegativeMiner(HardNegatives(count=1, refresh_every=10), pairs, seed=0)
    assert [step for step in range(25) if every.due(step)] == [0, 10, 20]
    assert math.isnan(every.threshold) and not len(every.of(pairs.draw(8, step_generator(0, 0))))


def test_positives_of_users_are_their_own(world: TopicalWorld):
    _, pairs, _ = mined(world, count=1)
    users = torch.tensor([5, 2, 5])
    owner, items = pairs.positives_of(users)
    for place, user in enumerate(users):
        mine = pairs.positive(user[None], torch.arange(ITEMS))[0].nonzero().flatten()
        assert torch.equal(items[owner == place], mine)
