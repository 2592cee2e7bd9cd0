"""What mining knows of items: content vectors to compare, clusters to count, keys to draw by.

Shapes: I items of the catalogue, d content width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.utils.extmath import randomized_svd

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import UserError
from recdistill.retrieval.clusters import unit_rows
from recdistill.retrieval.hashing import hash_ids, spread
from recdistill.retrieval.overlap import multi_hot

_ITEMS_PER_TAG = 10  # rarer tags are no clusters, as k-means has at most one per ten items


@dataclass(frozen=True)
class Knowledge:
    """What mining knows of items.

    Attributes:
        content: [I, d] float32 unit content vectors, zero where an item has none.
        cluster: [I] cluster of the item, -1 where it has none.
        keys: [I] uint64 of the ids (:func:`item_keys`).
    """

    content: np.ndarray
    cluster: np.ndarray
    keys: np.ndarray

    @cached_property
    def has_content(self) -> np.ndarray:
        """[I] bool."""
        return np.asarray(np.any(self.content, axis=1))

    @cached_property
    def clusters(self) -> int:
        """How many clusters there are."""
        return int(self.cluster.max(initial=-1)) + 1


def item_keys(item_ids: pd.Index) -> np.ndarray:
    """[I] uint64 by which an item takes part in draws."""
    return spread(hash_ids(item_ids))


def content_vectors(table: EmbeddingTable, item_ids: pd.Index, *, width: int, seed: int) -> np.ndarray:
    """[I, ≤ width] float32 unit vectors in which content is compared; zero where an item has none."""
    unit = unit_rows(table.vectors)
    if unit.shape[1] > width:
        # Uncentred: inner products are to be kept, not variances.
        components = randomized_svd(unit, width, random_state=seed)[2]
        unit = unit_rows(unit @ components.T)
    return EmbeddingTable(table.ids, unit.astype(np.float32)).align(item_ids)[0]


def external_content(path: Path, item_ids: pd.Index) -> EmbeddingTable:
    """Read a table of item vectors that was made elsewhere.

    Raises:
        UserError: it is not there, breaks its contract, or knows no item of the catalogue.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such table of item vectors", remedy="check the path under mining.content")
    table = EmbeddingTable.read(path)
    if not table.ids.isin(item_ids).any():
        raise UserError(
            f"{path}: column 'item_id' has no id in common with the catalogue ({table.ids.dtype}, "
            f"e.g. {table.ids[:3].tolist()}; the catalogue: {item_ids.dtype}, e.g. {item_ids[:3].tolist()})",
            remedy="give under mining.content a table with the ids, and the id type, of the items table",
        )
    return table


def tag_clusters(items: Path, field: str, item_ids: pd.Index) -> np.ndarray:
    """[I] each item's rarest tag among those that ten items have, numbered; -1 where it has none of them.

    A tag that nearly all items have says little of an interest, and one that few have gives no others to draw.

    Args:
        items: the items table, with a column ``tags_<field>``.

    Raises:
        UserError: the table has no such field, or no tag has ten items.
    """
    column = names.TAGS_PREFIX + field
    if column not in (found := pq.read_schema(items).names):
        fields = [name.removeprefix(names.TAGS_PREFIX) for name in found if name.startswith(names.TAGS_PREFIX)]
        raise UserError(
            f"{items}: no field of tags '{field}'", remedy=f"mining.tags is one of: {', '.join(fields) or 'none'}"
        )
    table = read_table(items, columns=[names.ITEM_ID, column])
    tagged, values = multi_hot(table[column])
    count = np.asarray((tagged > 0).sum(axis=0)).ravel()
    usual = np.flatnonzero(count >= _ITEMS_PER_TAG)
    if not len(usual):
        raise UserError(
            f"{items}: no tag of '{field}' has {_ITEMS_PER_TAG} items", remedy="name another field under mining.tags"
        )
    # Rarest first, equally rare by name: then an item's cluster is the first that it has.
    order = usual[np.lexsort((np.array(values, dtype=object)[usual].astype(str), count[usual]))]
    has = tagged[:, order].tocsr()
    has.sort_indices()
    cluster = np.full(len(table), -1)
    some = np.flatnonzero(np.diff(has.indptr))
    cluster[some] = has.indices[has.indptr[some]]
    rows = pd.Index(table[names.ITEM_ID].to_pandas()).get_indexer(item_ids)
    return np.where(rows >= 0, cluster[rows], -1)
