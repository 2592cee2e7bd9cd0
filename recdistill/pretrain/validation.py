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

    Memory: the vectors of a dataset's targets three times as float64, and 80 bytes a pair that is left out.
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
        offsets, others = _left_out(dataset, place)
        ranks = target_ranks(queries.double(), targets.double(), place, exclude_offsets=offsets, exclude_items=others)
        found[dataset.name] = float(torch.where(ranks <= CUTOFF, 1 / torch.log2(1 + ranks), 0.0).mean())
    return found


def _left_out(dataset: PairDataset, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[H + 1], [E] ragged places of targets that are no candidates: known by training pairs, or the query itself."""
    held, targets = dataset.held_query, dataset.targets
    known = torch.cat([dataset.known(held), torch.stack([torch.arange(len(held)), held], dim=1)])
    at = torch.searchsorted(targets, known[:, 1].contiguous()).clamp_max(len(targets) - 1)
    row = known[:, 0]
    kept = (targets[at] == known[:, 1]) & (at != place[row])  # what is asked for takes part
    pairs = torch.unique(row[kept] * len(targets) + at[kept])
    count = torch.bincount(pairs // len(targets), minlength=len(held))
    return torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)]), pairs % len(targets)
