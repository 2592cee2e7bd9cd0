"""How well a student finds the held-out pairs' targets: what chooses among its states.

Shapes: H held-out pairs, T targets of a dataset, d width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from recdistill.pretrain.datasets import PairDataset
from recdistill.pretrain.encoder import RowEncoder, Snapshot
from recdistill.pretrain.trainee import Trainee
from recdistill.retrieval.ranks import target_ranks

CUTOFF = 50


def held_out_ndcg(trainee: Trainee, datasets: Sequence[PairDataset], encoder: RowEncoder) -> dict[str, float]:
    """NDCG at 50 of each dataset's held-out targets among all of its targets, other known ones left out.

    Memory: H · T bytes, and the vectors of a dataset's targets twice as float64.
    """
    asked = [dataset for dataset in datasets if len(dataset.held_query)]
    if not asked:
        return {}
    sides = [((of.name, 0, of.held_query), (of.name, 1, of.targets)) for of in asked]
    now = Snapshot(trainee, encoder, itertools.chain.from_iterable(sides))
    found = {}
    for dataset, (query, target) in zip(asked, sides, strict=True):
        queries, targets = now.vectors(*query), now.vectors(*target)
        place = torch.searchsorted(dataset.targets, dataset.held_target.contiguous())
        known = dataset.related(dataset.held_query, dataset.targets)
        known[torch.arange(len(place)), place] = False
        others = known.nonzero()[:, 1]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), known.sum(1).cumsum(0)])
        ranks = target_ranks(queries.double(), targets.double(), place, exclude_offsets=offsets, exclude_items=others)
        found[dataset.name] = float(torch.where(ranks <= CUTOFF, 1 / torch.log2(1 + ranks), 0.0).mean())
    return found
