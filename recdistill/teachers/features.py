"""Tags of items as sparse features of the ID teacher: an item's vector is its own plus those of its tags.

Shapes: V vocabulary items, T rows of a feature, k pairs of item and tag.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.teachers.tables import SparseFeature


def sparse_features(
    path: Path, *, fields: Sequence[str], item_ids: pd.Index, min_items: int
) -> tuple[SparseFeature, ...]:
    """Read tag fields of the ``items`` table, and nothing else of it.

    A feature's rows are the tags that at least ``min_items`` vocabulary items carry, sorted, so that they depend on no
    order of the file; a tag that an item repeats counts once. Memory: one field's column, and 40 bytes a pair.

    Args:
        path: the ``items`` table.
        fields: names without their prefix: ``genres`` is the column ``tags_genres``.
        item_ids: [V] the vocabulary.
        min_items: below, a tag would be another name of its one item.

    Raises:
        UserError: the table lacks a field or an item, or no tag of a field is on enough items.
    """
    if not fields:
        return ()
    rows = pd.Index(read_table(path, columns=[names.ITEM_ID])[names.ITEM_ID].to_pandas()).get_indexer(item_ids)
    if (rows < 0).any():
        raise UserError(
            f"{path}: {int((rows < 0).sum())} items of the vocabulary are missing, "
            f"e.g. {item_ids[rows < 0][:3].tolist()}",
            remedy="run ingest and split again: the catalogue has changed between them",
        )
    there = [
        column.removeprefix(names.TAGS_PREFIX)
        for column in pq.read_schema(path).names
        if column.startswith(names.TAGS_PREFIX)
    ]
    for name in fields:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            raise UserError(
                f"{path}: there is no tag field '{name}' (no column '{names.TAGS_PREFIX}{name}')",
                remedy=(f"did you mean '{near[0]}'? " if near else "")
                + f"fields for teachers.id.features: {', '.join(there) or 'none'}",
            )
    return tuple(_feature(path, name, rows=rows, min_items=min_items) for name in fields)


def _feature(path: Path, name: str, *, rows: np.ndarray, min_items: int) -> SparseFeature:
    """One field; ``rows``: [V] where in the table the vocabulary stands."""
    column = names.TAGS_PREFIX + name
    lists = read_table(path, columns=[column])[column].combine_chunks().take(pa.array(rows))
    flat = lists.flatten()
    known = flat.is_valid()
    item = pc.list_parent_indices(lists).filter(known).to_numpy().astype(np.int64)
    flat = flat.filter(known)
    tags = flat.unique().sort()
    code = pc.index_in(flat, value_set=tags).to_numpy(zero_copy_only=False).astype(np.int64)
    item, code = np.divmod(np.unique(item * max(len(tags), 1) + code), max(len(tags), 1))
    frequent = np.bincount(code, minlength=len(tags)) >= min_items
    if not frequent.any():
        raise UserError(
            f"{path}: no tag of field '{name}' is on {min_items} items of the vocabulary or more",
            remedy="take the field out of teachers.id.features, or lower teachers.id.feature_min_items",
        )
    kept = frequent[code]
    item, code = item[kept], (frequent.cumsum() - 1)[code[kept]]
    offsets = np.searchsorted(item, np.arange(len(rows) + 1))
    return SparseFeature(name, int(frequent.sum()), torch.from_numpy(code), torch.from_numpy(offsets))
