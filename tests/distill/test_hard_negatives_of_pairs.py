"""Hard negatives of interest pairs: near, below the threshold, and nobody's positive."""

from __future__ import annotations

import math

import torch
from topical_world import ITEMS, TOPIC, TopicalWorld

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
    miner.refresh(vectors, MeanHead(), 0)
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


def test_only_as_many_queries_are_mined_for_as_asked_and_others_the_next_time(world: TopicalWorld):
    miner, pairs, vectors = mined(world, count=1, queries=20)
    first = miner.state_dict()["mined"].flatten() >= 0
    miner.refresh(vectors, MeanHead(), 100)
    second = miner.state_dict()["mined"].flatten() >= 0
    assert 0 < first.sum() <= 20 and 0 < second.sum() <= 20 and not torch.equal(first, second)
    assert len(pairs) > 100


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
