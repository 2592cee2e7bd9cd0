"""``teacher_space``: items near in a teacher's space.

Shapes: n items that the teacher knows well enough, d its width.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.space import Space
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import TeacherSpaceConfig
from recdistill.pairs.found import Found, between_items, nothing
from recdistill.retrieval.hashing import mix
from recdistill.retrieval.ranks import topk

_SCORES = 20_000_000  # of a block
FEW = "the teacher knows fewer than two items of the catalogue that well"


def teacher_space(config: TeacherSpaceConfig, catalogue: Catalogue, teacher: EmbeddingTable, *, seed: int) -> Found:
    """Pairs of known items, by exact search; score: cosine of the vectors' directions less their mean.

    As many items ask as the pairs kept need, drawn by (seed, item). Time: queries · n · d. Memory: 12·n·d bytes, and
    160 MB for a block.
    """
    space = Space.of(supported(teacher, catalogue, least=config.min_support), catalogue.ids, centre=True)
    rows = np.flatnonzero(space.vectors.any(axis=1))
    if len(rows) < 2:
        return nothing(catalogue.ids, FEW)
    vectors = torch.from_numpy(space.vectors[rows])
    neighbours = min(config.neighbours, len(rows) - 1)
    asking = math.ceil(config.max_pairs / neighbours)
    asked = np.sort(np.argsort(mix(seed, catalogue.hashes[rows]), kind="stable")[:asking])
    own = torch.from_numpy(asked)
    near, cosine = topk(vectors[own], vectors, k=neighbours, own=own, block=max(1, _SCORES // len(rows)))
    kept = (cosine > 0).numpy()
    query = np.repeat(rows[asked], neighbours).reshape(kept.shape)
    return between_items(catalogue.ids, query[kept], rows[near.numpy()[kept]], cosine.numpy()[kept])


def supported(table: EmbeddingTable, catalogue: Catalogue, *, least: int) -> EmbeddingTable:
    """The catalogue's items with so many interactions behind them (all, where the table does not say), by id."""
    order = table.ids.argsort()
    kept = table.ids[order].isin(catalogue.ids)
    if table.support is not None:
        kept &= table.support[order] >= least
    order = order[kept]
    return EmbeddingTable(table.ids[order], table.vectors[order], metadata=table.metadata)
