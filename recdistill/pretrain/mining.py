"""Hard negatives and λ* of every dataset, by the student as it stands (SAIL-Embedding 3.1.2).

Shapes: P pairs, Q distinct queries, T targets, H hard negatives a query.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from recdistill.pretrain.batches import Sampler
from recdistill.pretrain.datasets import PairDataset
from recdistill.pretrain.encoder import RowEncoder, Snapshot
from recdistill.pretrain.hard_negatives import dataset_threshold, mine
from recdistill.pretrain.trainee import Trainee


def refresh(sampler: Sampler, trainee: Trainee, encoder: RowEncoder, *, most_queries: int, seed: int) -> None:
    """Mine anew for all of the sampler's datasets.

    Args:
        most_queries: by so many queries, drawn, a dataset's λ* is found.
    """
    sides = [((of.name, 0, of.query.unique()), (of.name, 1, of.targets)) for of in sampler.datasets]
    now = Snapshot(trainee, encoder, itertools.chain.from_iterable(sides))
    for index, (dataset, (query, target)) in enumerate(zip(sampler.datasets, sides, strict=True)):
        queries, vectors, targets = query[2], now.vectors(*query), now.vectors(*target)
        known, itself = _known(dataset, queries), _places(dataset.targets, queries)
        drawn = torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed))[:most_queries].sort().values
        place = torch.full((len(queries),), -1)
        place[drawn] = torch.arange(len(drawn))
        mine_pairs = known[place[known[:, 0]] >= 0]
        threshold, _ = dataset_threshold(
            vectors[drawn],
            targets,
            torch.stack([place[mine_pairs[:, 0]], mine_pairs[:, 1]], dim=1),
            itself=itself[drawn],
        )
        hard = mine(vectors, targets, known, threshold=threshold, count=sampler.hard_negatives, itself=itself)
        rows = torch.where(hard < 0, hard, dataset.targets[hard.clamp_min(0)])
        sampler.mined(index, rows[_places(queries, dataset.query)], threshold)


def _known(dataset: PairDataset, queries: Tensor) -> Tensor:
    """[P + H, 2] places among the distinct queries and the targets of all pairs, held-out ones included."""
    query = torch.cat([dataset.query, dataset.held_query])
    target = torch.cat([dataset.target, dataset.held_target])
    place = _places(queries, query)
    return torch.stack([place, torch.searchsorted(dataset.targets, target)], dim=1)[place >= 0]


def _places(among: Tensor, rows: Tensor) -> Tensor:
    """[n] place of each row among ascending ones, -1 where it is none of them."""
    place = torch.searchsorted(among, rows).clamp_max(len(among) - 1)
    return torch.where(among[place] == rows, place, -1)
