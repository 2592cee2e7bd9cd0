"""Tables of events as a caller names them: their files, and what is known of those before a row is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.events import check_events, is_number
from recdistill.errors import UserError


@dataclass(frozen=True)
class EventFile:
    """One Parquet file.

    Attributes:
        rows: how many it has.
    """

    path: Path
    schema: pa.Schema
    rows: int


def event_files(tables: Sequence[Path], columns: Sequence[str], *, what: str) -> list[EventFile]:
    """The files of tables, in the tables' order; those of a folder by name, without what begins with ``_`` or ``.``.

    Args:
        tables: each a Parquet file or a folder of part files.
        columns: those that every file must have.
        what: what the tables are, in an error.

    Raises:
        UserError: there is none, one is missing or no Parquet, or as :func:`recdistill.contracts.events.check_events`.
    """
    remedy = f"name Parquet files (or folders of them) with {', '.join(columns)}, a row an event"
    found = [_opened(part, columns, remedy) for table in tables for part in _parts(table, remedy)]
    if not found:
        raise UserError(f"{what}: no table is named", remedy=remedy)
    return found


def check_kinds(schemas: Mapping[str, pa.Schema], item_ids: pd.Index) -> None:
    """Refuse ids of another kind (``7`` among ``"7"``), which would find nothing and say nothing.

    Args:
        schemas: by the table's name in an error; of user_id and item_id among others.
        item_ids: those of the embeddings.

    Raises:
        UserError: items' ids are numbers in a table and text in the embeddings, or users' are in one table and another.
    """
    for what, schema in schemas.items():
        kind = schema.field(names.ITEM_ID).type
        if is_number(kind) != pd.api.types.is_integer_dtype(item_ids.dtype):
            raise UserError(
                f"{what}: {names.ITEM_ID} is {kind}, but {item_ids.dtype} in the embeddings",
                remedy="write the ids alike in all tables",
            )
    if len({is_number(schema.field(names.USER_ID).type) for schema in schemas.values()}) > 1:
        raise UserError(
            f"{names.USER_ID} is a number in one table and text in another: {', '.join(schemas)}",
            remedy="write it alike in all of them",
        )


def _parts(table: Path, remedy: str) -> list[Path]:
    if not table.is_dir():
        return [table]
    try:
        parts = [Path(name) for name in ds.dataset(table, format="parquet").files]
    except pa.ArrowInvalid as error:  # what the first of the files is tells Arrow the types
        raise UserError(f"{table}: not a folder of Parquet files ({error})", remedy=remedy) from error
    if not parts:
        raise UserError(f"{table}: a folder without files", remedy=remedy)
    return parts


def _opened(path: Path, columns: Sequence[str], remedy: str) -> EventFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such table", remedy=remedy) from error
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable Parquet table ({error})", remedy=remedy) from error
    check_events(schema, columns, what=str(path))
    return EventFile(path, schema, rows)
