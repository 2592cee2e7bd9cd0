"""What the ingested tables hold: the figures of ``validation.json``, read back from disk part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.validate import BATCH


def summarise_interactions(path: Path) -> dict[str, Any]:
    """Events, users, items, positives by behaviour, time span.

    Memory: one batch, and about 100 bytes a user and an item.
    """
    columns = [names.USER_ID, names.ITEM_ID, names.TIMESTAMP, names.BEHAVIOURS]
    users: list[pd.Series] = []
    items: list[pa.Array] = []
    behaviours: dict[str, int] = {}
    events = positives = 0
    first = last = None
    for batch in ds.dataset(path, format="parquet").to_batches(
        columns=columns, batch_size=BATCH, batch_readahead=2, fragment_readahead=1
    ):
        if not len(batch):
            continue
        lists = batch.column(names.BEHAVIOURS)
        positive = pc.greater(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        events, positives = events + len(batch), positives + int(positive.sum())
        for counted in pc.value_counts(lists.flatten()).to_pylist():
            behaviours[counted["values"]] = behaviours.get(counted["values"], 0) + counted["counts"]
        users.append(pd.Series(positive).groupby(batch.column(names.USER_ID).to_pandas().to_numpy()).any())
        items.append(pc.unique(batch.column(names.ITEM_ID)))
        if len(users) > 64:  # keeps memory at distinct users, not at parts
            users, items = [_any(users)], [pc.unique(pa.concat_arrays(items))]
        span = pc.min_max(batch.column(names.TIMESTAMP)).as_py()
        first = span["min"] if first is None else min(first, span["min"])
        last = span["max"] if last is None else max(last, span["max"])
    by_user = _any(users)
    return {
        "events": events,
        "users": len(by_user),
        "items": len(pc.unique(pa.concat_arrays(items))) if items else 0,
        "positives": positives,
        "behaviours": dict(sorted(behaviours.items())),
        "users_without_positive": int((~by_user).sum()),
        "first": first.isoformat() if first is not None else None,
        "last": last.isoformat() if last is not None else None,
    }


def summarise_items(path: Path) -> dict[str, Any]:
    """Items, and for every column of content how many of them have it."""
    table = pq.read_table(path)
    filled = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            has = pc.greater(pc.list_value_length(column), 0)
        else:
            has = column.is_valid()
        filled[name] = int(pc.sum(has).as_py() or 0)
    filled.pop(names.ITEM_ID)
    return {"items": len(table), "items_with": filled}


def summarise_queries(path: Path) -> dict[str, Any]:
    """Search events, distinct query texts, items and users (if any are named), time span."""
    table = pq.read_table(path)
    span = pc.min_max(table[names.TIMESTAMP]).as_py()
    named = {"queries": names.QUERY_TEXT, "items": names.ITEM_ID, "users": names.USER_ID}
    return {
        "events": len(table),
        **{
            what: pc.count_distinct(table[column]).as_py()
            for what, column in named.items()
            if column in table.column_names
        },
        "first": span["min"].isoformat(),
        "last": span["max"].isoformat(),
    }


def _any(parts: list[pd.Series]) -> pd.Series:
    """Of each user (the index): whether any part says true."""
    return pd.concat(parts).groupby(level=0).any() if parts else pd.Series(dtype=bool)
