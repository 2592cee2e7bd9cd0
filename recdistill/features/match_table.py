"""Tables of events and histories → the ``match_features`` table, user chunk after user chunk.

Shapes: n events, F columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.by_user import user_bounds, user_chunks
from recdistill.contracts.events import plain_events
from recdistill.contracts.log import COLUMNS, Log
from recdistill.contracts.tables import METADATA_KEY, ROW_GROUP, atomic
from recdistill.contracts.trained import warn_of_learned
from recdistill.features.event_files import EventFile, check_kinds, event_files
from recdistill.features.match_items import MatchItems
from recdistill.features.match_log import match_log

EVENT = (names.USER_ID, names.ITEM_ID, names.TIMESTAMP)


def match_rows(events: pa.Table, history: pa.Table, items: MatchItems) -> pa.Table:
    """The ``match_features`` of events, in their order; this is what every engine calls.

    Args:
        events: user_id, item_id, timestamp; items that are not among ``items`` get NaN.
        history: an ``interactions`` table with all that the events' users did. Match features read its positives,
            reactions (where ``items`` have them) its other events too: of positives alone they would all be 0.

    Raises:
        UserError: as :func:`recdistill.contracts.events.plain_events`, or ids are of another kind than the items' or
            than the other table's.
    """
    asked, past = plain_events(events, EVENT, what="events"), plain_events(history, COLUMNS, what="history")
    check_kinds({"events": asked.schema, "history": past.schema}, items.ids)
    return _matched(asked, past, items)


def _matched(events: pa.Table, history: pa.Table, items: MatchItems) -> pa.Table:
    known = _rows(history[names.ITEM_ID], items.ids) >= 0
    log = Log.of([history.filter(pa.array(known))], item_ids=items.ids)
    user, item = _rows(events[names.USER_ID], log.user_ids), _rows(events[names.ITEM_ID], items.ids)
    values = match_log(items, log, user=user, item=item, time=events[names.TIMESTAMP].cast(pa.int64()).to_numpy())
    columns: dict[str, Any] = {name: events[name] for name in EVENT}
    columns |= {name: pa.array(values[:, at], pa.float32()) for at, name in enumerate(items.columns)}
    return pa.table(columns)


def write_match_features(
    events: Sequence[Path],
    history: Sequence[Path],
    items: MatchItems,
    *,
    out: Path,
    metadata: Mapping[str, Any] | None = None,
    chunk_events: int = 1_000_000,
) -> int:
    """Write the ``match_features`` of Parquet tables that may be larger than memory.

    Rows come by user, in the files' order within a chunk of users; tables sorted by user are read once, others once a
    chunk.

    Memory: the items (4 d + 8 + 4 L bytes each, twice while they are read), and a chunk: 300 · E bytes where its users
    have E rows in all the files (``chunk_events``, or one user's), plus 4 F an event, plus 32 MiB and Arrow's own.

    Args:
        events: one or several tables with user_id, item_id, timestamp; impressions, say. Each is a file or a folder of
            part files.
        history: one or several ``interactions`` tables of the same users, as :func:`match_rows` reads them; the events'
            own table may be one of them.
        metadata: provenance, beside the columns' settings.

    Returns:
        How many rows were written.

    Raises:
        UserError: no table is named, one is missing or no Parquet, has ids of another kind than the others, or as
            :func:`recdistill.contracts.events.plain_events`.
    """
    asked_of, past_of = event_files(events, EVENT, what="events"), event_files(history, COLUMNS, what="history")
    check_kinds({str(file.path): file.schema for file in (*asked_of, *past_of)}, items.ids)
    filled = [file.path for file in (*past_of, *asked_of) if file.rows]
    of_history = sum(file.rows > 0 for file in past_of)
    empty = [_none(past_of[0], COLUMNS), _none(asked_of[0], EVENT)]
    provenance = {**(metadata or {}), **items.basis.settings()}
    schema = _matched(empty[1], empty[0], items).schema
    schema = schema.with_metadata({METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})
    rows = learned = 0
    bounds = user_bounds(filled, chunk_events=chunk_events, columns=(), visit=lambda batch: None)
    with atomic(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for tables in user_chunks(filled, bounds, columns=EVENT, where_given=(names.BEHAVIOURS,)):
            read = list(zip(filled, tables, strict=True))
            past, asked = _joined(read[:of_history], empty[0]), _joined(read[of_history:], empty[1])
            if len(asked):
                writer.write_table(_matched(asked, past, items).cast(schema), row_group_size=ROW_GROUP)
            rows += len(asked)
            if items.trained_until is not None:
                learned += pc.sum(pc.less_equal(asked[names.TIMESTAMP], items.trained_until)).as_py() or 0
    if items.trained_until is not None:
        what = "what gave the items their vectors"
        warn_of_learned(learned, rows, items.trained_until, what=what, stacklevel=2)
    return rows


def _none(file: EventFile, columns: Sequence[str]) -> pa.Table:
    """No events, of a file's types."""
    return plain_events(file.schema.empty_table(), columns, what=str(file.path))


def _joined(read: Sequence[tuple[Path, pa.Table]], empty: pa.Table) -> pa.Table:
    return pa.concat_tables(
        [empty, *(plain_events(table, empty.column_names, what=str(path)) for path, table in read)],
        promote_options="permissive",
    )


def _rows(column: pa.ChunkedArray, ids: pd.Index) -> np.ndarray:
    """[n] int64 place of each id, -1 where there is none."""
    distinct = pc.unique(column)
    rows: np.ndarray = ids.get_indexer(pd.Index(distinct.to_pandas()))
    return rows[pc.index_in(column, value_set=distinct).to_numpy()]
