"""How well a student finds the held-out pairs' targets: what chooses among its states.

Shapes: H held-out pairs, T targets of a dataset, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recdistill.pretrain.datasets import PairDataset
from recdistill.pretrain.encoder import RowEncoder
from recdistill.pretrain.trainee import Trainee
from recdistill.retrieval.ranks import target_ranks

CUTOFF = 50


def held_out_ndcg(trainee: Trainee, datasets: Sequence[PairDataset], encoder: RowEncoder) -> dict[str, float]:
    """NDCG at 50 of each dataset's held-out targets among all of its targets, other known ones left out.

    Memory: H · T bytes, and the vectors of a dataset's targets twice as float64.
    """
    found = {}
    for dataset in datasets:
        if not len(dataset.held_query):
            continue
        queries = encoder.unit_vectors(trainee, dataset.name, 0, dataset.held_query)
        targets = encoder.unit_vectors(trainee, dataset.name, 1, dataset.targets)
        place = torch.searchsorted(dataset.targets, dataset.held_target)
        known = dataset.related(dataset.held_query, dataset.targets)
        known[torch.arange(len(place)), place] = False
        others = known.nonzero()[:, 1]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), known.sum(1).cumsum(0)])
        ranks = target_ranks(queries.double(), targets.double(), place, exclude_offsets=offsets, exclude_items=others)
        found[dataset.name] = float(torch.where(ranks <= CUTOFF, 1 / torch.log2(1 + ranks), 0.0).mean())
    return found
