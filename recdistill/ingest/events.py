"""From converted events to the ``interactions`` table: behaviours as bit masks, repeats dropped, a canonical order.

Shapes: n events. Memory: about 100 bytes an event while sorting, beside the columns themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.log import MAX_BEHAVIOURS
from recdistill.contracts.violations import Violations
from recdistill.ingest.config import IdType
from recdistill.ingest.convert import unify_ids

MASK = "_mask"  # int64 column of a chunk: bit b set = the event carries behaviour b of Behaviours
_OPTIONAL = (names.VALUE, names.IMPRESSION_ID, names.POSITION, names.DWELL, names.SESSION_ID)
_ROOMY_FROM = 1 << 30  # bytes of one column


class Behaviours:
    """Numbers behaviour labels in the order in which they are met."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def bit(self, label: str) -> int:
        """The mask with the label's bit set; labels beyond the limit share the last bit and fail the check."""
        if label not in self.labels:
            self.labels.append(label)
        return 1 << min(self.labels.index(label), 62)

    def check(self, file: str, into: Violations) -> None:
        """Note if there are more labels than a log can carry."""
        if len(self.labels) > MAX_BEHAVIOURS:
            into.add(
                file=file,
                rule=f"{len(self.labels)} behaviour labels; at most {MAX_BEHAVIOURS} are supported",
                values=self.labels,
                remedy="give rare kinds of event one label in behaviour_map, and null to those that are not positive",
            )


@dataclass(frozen=True)
class Finished:
    """The canonical table, and what became of the rows."""

    table: pa.Table
    duplicates: int
    merged: int


def finish(
    chunks: list[pa.Table],
    behaviours: Behaviours,
    *,
    user_ids: IdType,
    item_ids: IdType,
    merge_within_seconds: float | None,
    file: str,
    into: Violations,
) -> Finished | None:
    """Make one canonical table of all chunks; None, with the reason noted, if that cannot be.

    Events that are alike in every column are one. Rows are ordered by user and time, and among equal times by a hash
    of the ids, so that neither the order of the input nor the order of ids shows in the result.

    Args:
        chunks: tables with user_id, item_id, timestamp, the optional columns and ``MASK``.
        merge_within_seconds: see ``InteractionsConfig``.
    """
    behaviours.check(file, into)
    _same_type(chunks, names.USER_ID, user_ids, file, into)
    _same_type(chunks, names.ITEM_ID, item_ids, file, into)
    if len(into):
        return None
    table = _roomy(pa.concat_tables(chunks))
    labels = sorted(behaviours.labels)
    table = table.set_column(
        table.schema.get_field_index(MASK), MASK, pa.array(_renumber(table[MASK].to_numpy(), behaviours.labels, labels))
    )
    if not table[MASK].to_numpy().any():
        into.add(
            file=file,
            rule="no event has a positive behaviour",
            count=len(table),
            remedy="lower the thresholds of behaviours, or map more kinds of event to a label",
        )
        return None
    rows = len(table)
    table = table.filter(pa.array(~column_codes(table).duplicated().to_numpy()))
    distinct = len(table)
    if merge_within_seconds is not None:
        table = _merge(table, int(merge_within_seconds * 1e6))
    table = table.take(pa.array(_canonical_order(table)))
    lists = _label_lists(table[MASK].to_numpy(), labels)
    columns = {name: table[name] for name in (names.USER_ID, names.ITEM_ID, names.TIMESTAMP)}
    columns[names.BEHAVIOURS] = lists
    columns |= {name: table[name] for name in _OPTIONAL if name in table.column_names}
    return Finished(pa.table(columns), duplicates=rows - distinct, merged=distinct - len(table))


def _same_type(chunks: list[pa.Table], name: str, kind: IdType, file: str, into: Violations) -> None:
    parts, holds = unify_ids([chunk[name].combine_chunks() for chunk in chunks], kind=kind)
    if not holds:
        into.add(
            file=file,
            column=name,
            rule="ids that are not integers, though int64 is asked for",
            remedy=f"set data.{name}s to auto or string",
        )
        return
    for index, part in enumerate(parts):
        chunks[index] = chunks[index].set_column(chunks[index].schema.get_field_index(name), name, part)


def _roomy(table: pa.Table) -> pa.Table:
    """Texts of more than a gigabyte as large strings: plain ones overflow beyond two in one piece."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and table.column(index).nbytes > _ROOMY_FROM:
            table = table.set_column(index, field.name, table.column(index).cast(pa.large_string()))
    return table


def _renumber(mask: np.ndarray, old: list[str], new: list[str]) -> np.ndarray:
    result = np.zeros_like(mask)
    for bit, label in enumerate(old):
        result |= ((mask >> bit) & 1) << new.index(label)
    return result


def column_codes(table: pa.Table) -> pd.DataFrame:
    """Every column as numbers, equal where the values are."""
    codes = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.fill_null(column.dictionary_encode().indices, -1)
        elif pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        codes[name] = column.to_numpy(zero_copy_only=False)
    return pd.DataFrame(codes)


def _merge(table: pa.Table, gap: int) -> pa.Table:
    codes = column_codes(table)
    user, item, time = (codes[name].to_numpy() for name in (names.USER_ID, names.ITEM_ID, names.TIMESTAMP))
    order = np.lexsort((time, item, user))
    user, item, time = user[order], item[order], time[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1]) | (time[1:] - time[:-1] > gap)
    starts = np.flatnonzero(first)
    merged = table.take(pa.array(order[np.append(starts[1:], len(order)) - 1]))  # each group's last event
    mask = np.bitwise_or.reduceat(table[MASK].to_numpy()[order], starts)
    merged = merged.set_column(merged.schema.get_field_index(MASK), MASK, pa.array(mask))
    if names.DWELL in table.column_names:
        dwell = table[names.DWELL].cast(pa.float64()).to_numpy(zero_copy_only=False)[order]
        known = np.add.reduceat(~np.isnan(dwell), starts, dtype=np.int64) > 0
        total = np.add.reduceat(np.nan_to_num(dwell), starts)
        merged = merged.set_column(
            merged.schema.get_field_index(names.DWELL), names.DWELL, pa.array(total, mask=~known).cast(pa.float32())
        )
    return merged


def _canonical_order(table: pa.Table) -> np.ndarray:
    user, _ = _rank_and_hash(table[names.USER_ID])
    _, item_hash = _rank_and_hash(table[names.ITEM_ID])
    time = table[names.TIMESTAMP].cast(pa.int64()).to_numpy()
    # Mixing in user and time gives tied items another order each time.
    tie = pd.util.hash_array(item_hash ^ pd.util.hash_array(time) ^ pd.util.hash_array(user))
    keys = [tie, time, user]
    for name in (MASK, names.VALUE, names.POSITION, names.DWELL):
        if name in table.column_names:
            keys.insert(0, table[name].to_numpy())
    for name in (names.IMPRESSION_ID, names.SESSION_ID):
        if name in table.column_names:
            keys.insert(0, _rank_and_hash(pc.fill_null(table[name], ""))[0])
    return np.lexsort(keys)


def _rank_and_hash(ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """[n] rank of each id among the distinct ones, and [n] uint64 hash."""
    encoded = ids.combine_chunks().dictionary_encode()
    values = encoded.dictionary
    rows = encoded.indices.to_numpy()
    rank = np.empty(len(values), dtype=np.int64)
    rank[pc.sort_indices(values).to_numpy()] = np.arange(len(values))
    hashes = pd.util.hash_array(values.to_numpy(zero_copy_only=False))
    return rank[rows], hashes[rows]


def _label_lists(mask: np.ndarray, labels: list[str]) -> pa.Array:
    distinct, rows = np.unique(mask, return_inverse=True)
    lists = [[label for bit, label in enumerate(labels) if value >> bit & 1] for value in distinct.tolist()]
    return pa.array(lists, pa.list_(pa.string())).take(pa.array(rows))
