"""Semantic IDs as tables: item → ID and ID → items.

Shapes: n items, L levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.tables import read_metadata, read_table
from recdistill.errors import UserError

SEMANTIC_ID = "semantic_id"


def to_table(ids: pd.Index, codes: np.ndarray) -> pa.Table:
    """The ``semantic_ids`` table: item_id, codes, semantic_id such as ``12-5``."""
    return pa.table(
        {
            names.ITEM_ID: pa.array(ids),
            names.CODES: _lists(codes),
            SEMANTIC_ID: pa.array(as_text(codes), pa.string()),
        }
    )


def to_items_table(ids: pd.Index, codes: np.ndarray) -> pa.Table:
    """Semantic ID → items: semantic_id, codes, item_ids (in the catalogue's order), ordered by codes."""
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    first = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    offsets = pa.array(np.append(first, len(codes)), pa.int32())
    return pa.table(
        {
            SEMANTIC_ID: pa.array(as_text(ordered[first]), pa.string()),
            names.CODES: _lists(ordered[first]),
            "item_ids": pa.ListArray.from_arrays(offsets, pa.array(ids[order])),
        }
    )


def as_text(codes: np.ndarray) -> list[str]:
    """``12-5`` of codes (12, 5)."""
    return ["-".join(map(str, row)) for row in codes.tolist()]


def read_codes(path: Path, item_ids: pd.Index, *, method: str) -> np.ndarray:
    """As :func:`codes_of`, of a file whose codes are to be continued.

    Args:
        method: by which they are; a code of one method says nothing of another's. A file that does not name its method
            is taken as it is.

    Raises:
        UserError: there is no such table, its codes were made by another method, or as :func:`codes_of`.
    """
    table = read_table(path)
    made_by = read_metadata(path).get("method", method)
    if made_by != method:
        raise UserError(
            f"{path}: semantic IDs by {made_by} cannot be continued by {method}",
            remedy=f"set export.semantic_ids.method={made_by}, or do not continue the earlier IDs",
        )
    return codes_of(table, item_ids, what=str(path))


def codes_of(table: pa.Table, item_ids: pd.Index, *, what: str) -> np.ndarray:
    """[n, L] int32 codes of a ``semantic_ids`` table in the order of ``item_ids``, -1 where it has no such item.

    Args:
        what: the table's name in an error.

    Raises:
        UserError: the table lacks a column, an item's id or one of its codes is null, or its codes are no lists of one
            length; or an item stands there twice.
    """
    missing = [column for column in (names.ITEM_ID, names.CODES) if column not in table.column_names]
    if missing:
        raise UserError(f"{what}: no column {', '.join(missing)}", remedy="give a semantic_ids.parquet of an export")
    lists = table[names.CODES].combine_chunks()
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise UserError(f"{what}: codes are {kind}, no lists", remedy="one code a level")
    flat = lists.flatten()
    nulls = table[names.ITEM_ID].null_count + lists.null_count + flat.null_count
    if nulls:
        raise UserError(f"{what}: {nulls} item ids or codes are null", remedy="leave items without codes out")
    widths = np.unique(pc.list_value_length(lists).to_numpy())
    if len(widths) != 1 or not widths[0]:
        raise UserError(f"{what}: codes of several lengths: {widths[:5].tolist()}", remedy="one code a level at least")
    codes = flat.to_numpy().reshape(len(table), -1).astype(np.int32)
    coded = pd.Index(table[names.ITEM_ID].to_pandas())
    if not coded.is_unique:
        repeated = coded[coded.duplicated()][:3].tolist()
        raise UserError(f"{what}: item ids repeat, e.g. {repeated}", remedy="one row an item")
    rows = coded.get_indexer(item_ids)
    return np.where((rows >= 0)[:, None], codes[rows], -1).astype(np.int32)


def _lists(codes: np.ndarray) -> pa.ListArray:
    offsets = pa.array(np.arange(len(codes) + 1) * codes.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(codes).ravel(), pa.int32()))
