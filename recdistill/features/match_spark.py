"""Match features and reactions under Spark, for logs that outgrow one machine: groups of whole users, one function.

Needs the extra ``spark`` (pyspark) and Java. The items travel to every worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from recdistill.contracts import names
from recdistill.features.match_items import MatchItems
from recdistill.features.match_table import EVENT, match_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_GROUP = "_group"
_KINDS = dict.fromkeys(("tinyint", "smallint", "int"), "bigint")  # the contract's ids have 64 bits


def match_spark(events: DataFrame, history: DataFrame, items: MatchItems, *, groups: int) -> DataFrame:
    """The ``match_features`` of events, as :func:`recdistill.features.match_table.match_rows` gives them; in no order.

    Written with ``spark.sql.parquet.outputTimestampType`` TIMESTAMP_MICROS, files keep the contract; Spark's default
    times are of another type.

    Nothing warns of events that the vectors may have learned from, which would be one more pass over them: compare
    their times with ``items.trained_until``.

    Memory: a worker's is the items, and 400 bytes a row of one group's events and history.

    Args:
        events: user_id, item_id, timestamp (TimestampType).
        history: an ``interactions`` table of the same users.
        groups: into how many groups the users are dealt, by a hash of their ids; some thousand users each are well.
    """
    shared = events.sparkSession.sparkContext.broadcast(items)
    micros = f"unix_micros({names.TIMESTAMP}) AS {names.TIMESTAMP}"  # a number is no session's local time
    dealt = f"pmod(xxhash64({names.USER_ID}), {groups}) AS {_GROUP}"
    asked = events.selectExpr(names.USER_ID, names.ITEM_ID, micros, dealt)
    past = history.selectExpr(names.USER_ID, names.ITEM_ID, micros, names.BEHAVIOURS, dealt)

    def match_group(ours: pa.Table, theirs: pa.Table) -> pa.Table:
        found = match_rows(_timed(ours), _timed(theirs), shared.value)
        return _with_time(found, found[names.TIMESTAMP].cast(pa.int64()))

    kinds = {field.name: _KINDS.get(kind := field.dataType.simpleString(), kind) for field in asked.schema}
    columns = [f"`{name}` {kinds[name]}" for name in EVENT] + [f"`{name}` float" for name in items.columns]
    found = asked.groupBy(_GROUP).cogroup(past.groupBy(_GROUP)).applyInArrow(match_group, schema=", ".join(columns))
    return found.selectExpr(*EVENT[:2], f"timestamp_micros({names.TIMESTAMP}) AS {names.TIMESTAMP}", *items.columns)


def _timed(table: pa.Table) -> pa.Table:
    return _with_time(table, table[names.TIMESTAMP].cast(pa.timestamp("us", "UTC")))


def _with_time(table: pa.Table, time: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(names.TIMESTAMP), names.TIMESTAMP, time)
