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
from recdistill.pretrain.trainee import Trainee
from recdistill.retrieval.hard_negatives import BLOCK, dataset_threshold, mine

_NUMBERS = 20_000_000  # cosines at one time: 340 MB


def refresh(sampler: Sampler, trainee: Trainee, encoder: RowEncoder, *, most_queries: int, seed: int) -> None:
    """Mine anew for all of the sampler's datasets.

    Args:
        most_queries: by so many queries, drawn, a dataset's λ* is found.
    """
    sides = [((of.name, 0, of.query[of.score > 0].unique()), (of.name, 1, of.targets)) for of in sampler.datasets]
    now = Snapshot(trainee, encoder, itertools.chain.from_iterable(sides))
    for index, (dataset, (query, target)) in enumerate(zip(sampler.datasets, sides, strict=True)):
        queries, vectors, targets = query[2], now.vectors(*query), now.vectors(*target)
        if not len(queries):
            continue
        known, itself = _known(dataset, queries), _places(dataset.targets, queries)
        drawn = torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed))[:most_queries].sort().values
        place = torch.full((len(queries),), -1)
        place[drawn] = torch.arange(len(drawn))
        asked = known[place[known[:, 0]] >= 0]
        block = max(1, min(BLOCK, _NUMBERS // len(targets)))
        threshold, _ = dataset_threshold(
            vectors[drawn],
            targets,
            torch.stack([place[asked[:, 0]], asked[:, 1]], dim=1),
            itself=itself[drawn],
            block=block,
        )
        count = sampler.hard_negatives
        hard = mine(vectors, targets, known, threshold=threshold, count=count, itself=itself, block=block)
        rows = torch.where(hard < 0, hard, dataset.targets[hard.clamp_min(0)])
        of_pair = _places(queries, dataset.query)  # a query that was only ever judged not to belong has none
        sampler.mined(index, torch.where(of_pair[:, None] < 0, -1, rows[of_pair]), threshold)


def _known(dataset: PairDataset, queries: Tensor) -> Tensor:
    """[n, 2] places among the queries and the targets of what is known to belong together, in either direction."""
    found = dataset.known(queries)
    target = _places(dataset.targets, found[:, 1])
    return torch.stack([found[:, 0], target], dim=1)[target >= 0]


def _places(among: Tensor, rows: Tensor) -> Tensor:
    """[n] place of each row among ascending ones, -1 where it is none of them."""
    place = torch.searchsorted(among, rows.contiguous()).clamp_max(len(among) - 1)  # it warns of a column's strides
    return torch.where(among[place] == rows, place, -1)
