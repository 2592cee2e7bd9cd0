"""Events that a caller brings, put into the one form that is computed with.

A stage's own tables are checked by their contracts. A team's come from pandas, Spark or a warehouse, and a type that is
read otherwise than it was meant gives numbers that look right: seconds taken for microseconds, or an id among nulls,
which pandas makes a float, and thereby another user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.errors import UserError

_MOMENT = pa.timestamp("us", "UTC")
Column = TypeVar("Column", pa.Array, pa.ChunkedArray)


def decoded(column: Column) -> Column:
    """The column itself, or the values that a dictionary (a categorical of pandas', say) stands for."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_number(kind: pa.DataType) -> bool:
    """Whether ids of this type are integers."""
    return bool(pa.types.is_integer(_plain(kind)))


def check_events(schema: pa.Schema, columns: Sequence[str], *, what: str) -> None:
    """Refuse a table of events by its types.

    Args:
        columns: those that are needed; of ids, times and behaviours.
        what: the table's name in an error.

    Raises:
        UserError: a column is missing, ids are neither integers nor text, times are bare numbers or text, or behaviours
            are no lists.
    """
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise UserError(
            f"{what}: no column {', '.join(missing)} (found: {', '.join(schema.names)})",
            remedy=f"the table needs {', '.join(columns)}: see data_contracts/interactions.yaml",
        )
    faults = [
        f"column '{name}' is {schema.field(name).type}, not {needed}"
        for name in columns
        if (needed := _unlike(name, _plain(schema.field(name).type)))
    ]
    if faults:
        raise UserError(
            f"{what}: {'; '.join(faults)}",
            remedy="write ids as int64 or text, alike in all tables, and times as timestamps in UTC "
            "(pandas: pd.to_datetime(…, unit='s', utc=True))",
        )


def plain_events(table: pa.Table, columns: Sequence[str], *, what: str) -> pa.Table:
    """The columns of a table of events in one form: ids as int64 or text, times as microseconds of UTC.

    Times of a finer unit are cut to microseconds; those without a zone are taken as UTC, which is how Spark's files
    have them.

    Raises:
        UserError: as :func:`check_events`, or an id, a time, behaviours or one of their labels are null, or a number or
            time is beyond what 64 bits hold.
    """
    check_events(table.schema, columns, what=what)
    found = {name: decoded(table[name]) for name in columns}
    nulls = {name: count for name, of in found.items() if (count := _nulls(name, of))}
    if nulls:
        raise UserError(
            f"{what}: nulls in {len(table)} rows: {', '.join(f'{count} {name}' for name, count in nulls.items())}",
            remedy="drop those rows, or give them an id that nobody has, or an empty list of behaviours where nothing "
            "pleased",
        )
    try:
        return pa.table({name: _cast(name, of) for name, of in found.items()})
    except pa.ArrowInvalid as error:
        raise UserError(f"{what}: {error}", remedy="write ids and times that 64 bits hold, or ids as text") from error


def _nulls(name: str, column: pa.ChunkedArray) -> int:
    """How many; of behaviours also those among their labels, which the contract requires too."""
    among: int = pc.list_flatten(column).null_count if name == names.BEHAVIOURS else 0
    return int(column.null_count) + among


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _unlike(name: str, kind: pa.DataType) -> str:
    """What a column has to be and is not; empty where it is."""
    if name == names.TIMESTAMP:
        return "" if pa.types.is_timestamp(kind) else "a timestamp"
    if name == names.BEHAVIOURS:
        return "" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else "a list of labels"
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "" if text or pa.types.is_integer(kind) else "an integer or text"


def _cast(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if name == names.TIMESTAMP:
        return column.cast(_MOMENT, safe=kind.unit != "ns")
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    return column.cast(pa.large_string()) if pa.types.is_string_view(kind) else column
