"""Feature groups: what the ranker gets beyond the base from each embedding table.

Shapes: n rows, I items, d width, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.config import SemanticIdConfig
from recdistill.features.match import MatchFeatures
from recdistill.features.reactions import ReactionFeatures
from recdistill.features.semantic_ids import fit_codebooks
from recdistill.features.space import Space, principal_directions
from recdistill.rankers.config import RankConfig
from recdistill.rankers.rows import Rows


@dataclass(frozen=True)
class TableFeatures:
    """What one table gives a ranker; a part that the settings leave out is empty.

    Attributes:
        dense: for each set of rows, [n, c] float32, NaN where unknown.
        blocks: widths of the blocks of columns that share a scale, summing to c.
        vectors: [I, k] float32 principal components of the items, NaN without a vector; k = 0 if left out.
        sparse: for each semantic-ID level, [I] int64 bucket of every item, -1 without a vector.
    """

    dense: tuple[np.ndarray, ...]
    blocks: tuple[int, ...]
    vectors: np.ndarray
    sparse: tuple[np.ndarray, ...]


def table_features(
    config: RankConfig, table: EmbeddingTable, *, history: Log, row_sets: tuple[Rows, ...], own: bool, seed: int
) -> TableFeatures:
    """Match and reaction features, semantic IDs and principal components of one table.

    Codebooks and components are fitted on the table's items, never on labels.

    Args:
        own: whether the log has negatives of its own; else there are no reactions to tell apart.

    Memory: 20 · I · d bytes beside the table, plus 4 · n · (10 + L + components) bytes of features.
    """
    space = Space.of(table, history.item_ids, centre=config.centre)
    dense: list[list[np.ndarray]] = [[] for _ in row_sets]
    blocks: list[int] = []
    levels: tuple[np.ndarray, ...] = ()
    if {"match", "semantic_ids"} & set(config.features):
        levels = _levels(config.semantic_ids, table, space, history.item_ids, seed=seed)
    if "match" in config.features:
        codes = np.stack(levels, axis=1)
        match = MatchFeatures.from_log(space, history, config.match, codes=codes, seed=seed)
        for parts, rows in zip(dense, row_sets, strict=True):
            similar = match(rows.user, rows.item, rows.time)
            similar[:, -1] = np.log1p(similar[:, -1])
            parts.append(similar)
        blocks += [1] * len(match.columns)
    if "reaction" in config.features and own:
        reaction = ReactionFeatures.from_log(
            space, history, config.reaction, min_behaviours=config.match.min_behaviours
        )
        for parts, rows in zip(dense, row_sets, strict=True):
            parts.append(reaction(rows.user, rows.item, rows.time))
        blocks += [1] * len(reaction.columns)
    vectors = np.zeros((len(history.item_ids), 0), dtype=np.float32)
    if "embedding" in config.features:
        vectors = _components(space, width=config.embedding_width)
        for parts, rows in zip(dense, row_sets, strict=True):
            parts.append(vectors[rows.item])
        blocks.append(vectors.shape[1])
    sparse = levels if "semantic_ids" in config.features else ()
    empty = [np.zeros((len(rows), 0), dtype=np.float32) for rows in row_sets]
    columns = tuple(np.hstack(parts or [none]) for parts, none in zip(dense, empty, strict=True))
    return TableFeatures(columns, tuple(blocks), vectors, sparse)


def _components(space: Space, *, width: int) -> np.ndarray:
    """[I, k] float32 principal components of the unit vectors, NaN without a vector."""
    known = space.vectors[space.present]
    directions = principal_directions(known, width=width)
    components = np.full((len(space.vectors), directions.shape[1]), np.nan, dtype=np.float32)
    components[space.present] = (known - known.mean(axis=0)) @ directions
    return components


def _levels(
    config: SemanticIdConfig, table: EmbeddingTable, space: Space, item_ids: pd.Index, *, seed: int
) -> tuple[np.ndarray, ...]:
    known = item_ids[space.present]
    vectors, _ = table.align(known)
    books = fit_codebooks(config, known, vectors, mean=space.mean, seed=seed)
    numbers = books.buckets(books.encode(vectors))
    levels = []
    for at in range(numbers.shape[1]):
        level = np.full(len(item_ids), -1, dtype=np.int64)
        level[space.present] = np.unique(numbers[:, at], return_inverse=True)[1]
        levels.append(level)
    return tuple(levels)
