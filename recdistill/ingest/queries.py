"""Building the ``queries`` table of the generic adapter: what people searched for, and the items they took.

Memory: the converted table (about 60 bytes a row, plus texts) three times while it is put in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names, rules
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.validate import latest_allowed
from recdistill.contracts.violations import Violations
from recdistill.ingest.columns import Columns
from recdistill.ingest.config import DataConfig, QueriesConfig
from recdistill.ingest.convert import plain, unify_ids
from recdistill.ingest.events import column_codes
from recdistill.ingest.readers import Block, Source, blocks, sources

_EXACT = 2.0**53  # above it, float64 no longer tells whole numbers apart


def read_queries(
    config: DataConfig, queries: QueriesConfig, into: Violations, *, item_ids: pa.Array, user_type: pa.DataType
) -> tuple[pa.Table, dict[str, Any]] | None:
    """Read by the recipe's mapping; None, with all reasons noted, if the table cannot be used.

    Rows without a query text are dropped and counted, and so are rows that are alike in every column. Items that the
    catalogue lacks are refused under ``unknown_items: error``, else dropped and counted.

    Args:
        item_ids: the catalogue's.
        user_type: of the log's user ids, which those of this table take.

    Returns:
        the canonical table in an order of its own, and what became of the rows read.
    """
    refuses = config.unknown_items == "error"
    checker = Checker(
        load_contract("queries"),
        into=into,
        latest=latest_allowed(config.future_tolerance_hours),
        known={"items.item_id": item_ids} if refuses else {},
    )
    chunks: list[pa.Table] = []
    read = textless = unknown = 0
    given = sources(queries, config.root, into)
    for source in given:
        for block in blocks(source, list(_spelt(queries).values()), into):
            chunk, rows, blank = _convert(queries, source, block, into)
            read, textless = read + len(block.rows), textless + blank
            checker.add(chunk, Origin(source.shown, rows, _spelt(queries)))
            stranger = rules.is_unknown(plain(chunk[names.ITEM_ID]), item_ids)
            unknown += int(stranger.sum())
            chunks.append(chunk.filter(pa.array(~stranger)))
    checker.finish()
    if len(into):
        return None
    file = ", ".join(source.shown for source in given)
    if unknown == checker.rows:
        into.add(
            file=file,
            column=queries.columns.item,
            rule="no query's item is in the items table",
            remedy="check that both columns hold the same ids",
        )
        return None
    _retype(chunks, queries, file, into, item_type=item_ids.type, user_type=user_type)
    if len(into):
        return None
    table = pa.concat_tables(chunks)
    fresh = ~column_codes(table).duplicated().to_numpy()
    table = table.filter(pa.array(fresh))
    order = [names.TIMESTAMP, *(name for name in table.column_names if name != names.TIMESTAMP)]
    dropped = {"no query text": textless, "exact duplicate": int((~fresh).sum()), "unknown item": unknown}
    counts = {"rows_read": read, "rows_kept": len(table), "dropped": dropped}
    return table.sort_by([(name, "ascending") for name in order]), counts


def _spelt(queries: QueriesConfig) -> dict[str, str]:
    """Canonical column → the file's own name of it."""
    c = queries.columns
    pairs = {
        names.QUERY_TEXT: c.query,
        names.ITEM_ID: c.item,
        names.TIMESTAMP: c.timestamp,
        names.USER_ID: c.user,
        names.CLICKS: c.clicks,
        names.SCORE: c.score,
    }
    return {name: column for name, column in pairs.items() if column is not None}


def _convert(
    queries: QueriesConfig, source: Source, block: Block, into: Violations
) -> tuple[pa.Table, np.ndarray, int]:
    """A block's canonical columns and the numbers of its rows, without those that do not convert or have no text.

    Returns:
        the columns, the rows' numbers, and how many rows had no text.
    """
    given, spelt = Columns(source, block, into), _spelt(queries)
    text = pc.utf8_trim_whitespace(given.text(spelt[names.QUERY_TEXT]))
    blank = pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False)
    columns = {names.QUERY_TEXT: text, names.ITEM_ID: given.ids(spelt[names.ITEM_ID])}
    columns[names.TIMESTAMP] = given.times(
        spelt[names.TIMESTAMP], unit=queries.timestamp_unit, origin=queries.utc_origin
    )
    if names.USER_ID in spelt:
        columns[names.USER_ID] = given.ids(spelt[names.USER_ID])
    if names.CLICKS in spelt:
        numbers = given.numbers(spelt[names.CLICKS])
        values = numbers.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            faults = ~np.isnan(values) & ((np.floor(values) != values) | (np.abs(values) > _EXACT))
        given.note(spelt[names.CLICKS], "not a whole number", faults, "mend the values, or leave clicks out")
        columns[names.CLICKS] = pc.if_else(pa.array(faults), pa.scalar(None, pa.float64()), numbers).cast(pa.int64())
    if names.SCORE in spelt:
        columns[names.SCORE] = given.numbers(spelt[names.SCORE]).cast(pa.float32(), safe=False)
    kept = ~given.broken & ~blank
    return pa.table(columns).filter(pa.array(kept)), block.rows[kept], int((blank & ~given.broken).sum())


def _retype(
    chunks: list[pa.Table],
    queries: QueriesConfig,
    file: str,
    into: Violations,
    *,
    item_type: pa.DataType,
    user_type: pa.DataType,
) -> None:
    """Give the ids of all chunks the types of the catalogue's and the log's."""
    items = [plain(chunk[names.ITEM_ID]).cast(pa.string()).cast(item_type) for chunk in chunks]  # all are known
    _replace(chunks, names.ITEM_ID, items)
    if queries.columns.user is None:
        return
    number = pa.types.is_integer(user_type)
    users, holds = unify_ids([plain(chunk[names.USER_ID]) for chunk in chunks], kind="int64" if number else "string")
    if not holds:
        into.add(
            file=file,
            column=queries.columns.user,
            rule="user ids that are not integers, though the log's are",
            remedy="set data.user_ids to string",
        )
        return
    _replace(chunks, names.USER_ID, users)


def _replace(chunks: list[pa.Table], name: str, columns: list[pa.Array]) -> None:
    for at, column in enumerate(columns):
        chunks[at] = chunks[at].set_column(chunks[at].schema.get_field_index(name), name, column)
