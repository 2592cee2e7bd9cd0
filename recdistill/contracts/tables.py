"""Atomic Parquet reading and writing, and the embedding table that travels between stages.

Shapes: n rows, d embedding width.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.errors import UserError

METADATA_KEY = b"recdistill"
IdColumn = Literal["item_id", "user_id"]
# What a table of users says of itself: geometry (dot or cosine), kind, and the name of the table of item vectors that a
# user's vector is multiplied with; with any other items a user's vector means nothing.
USERS_METADATA = ("geometry", "kind", "item_table")
# Who wants a range of a sorted column decodes whole row groups: small enough to skip, large enough to compress.
ROW_GROUP = 1 << 17
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp gives 0600; what we leave is for others to read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(value: Any, path: Path) -> None:
    """Write JSON atomically; NaN is refused, since JSON has none."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(table: pa.Table | pd.DataFrame, path: Path, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a table atomically, in groups of :data:`ROW_GROUP` rows, with JSON provenance in the file's metadata."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    known = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
    known[METADATA_KEY] = json.dumps(dict(metadata or {}), sort_keys=True).encode()
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(known), temporary, row_group_size=ROW_GROUP)


def read_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    only: tuple[str, pd.Index] | None = None,
    threads: bool = True,
) -> pa.Table:
    """Read a Parquet table.

    Args:
        columns: those to read; None: all.
        only: a column and the values whose rows are kept; the others are never held in memory together.
        threads: decode with Arrow's pool of threads; else in the caller's alone.

    Raises:
        UserError: the file is missing or is not Parquet.
    """
    try:
        kept = None
        if only is not None:
            name, values = only
            kind = pq.read_schema(path).field(name).type
            kept = pc.field(name).isin(
                pa.array(values.to_numpy(), kind.value_type if pa.types.is_dictionary(kind) else kind)
            )
        chosen = list(columns) if columns is not None else None
        return pq.read_table(path, columns=chosen, filters=kept, use_threads=threads)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such table", remedy="run the stage that writes it first") from error
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable Parquet table ({error})") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON provenance written by :func:`write_table` ({} when there is none)."""
    raw = (pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")
    value: dict[str, Any] = json.loads(raw)
    return value


@dataclass(frozen=True)
class EmbeddingTable:
    """Vectors with the ids they belong to: ``teacher_embeddings``, ``item_embeddings`` and ``user_embeddings``.

    Attributes:
        ids: [n] item or user ids (string or int64), unique.
        vectors: [n, d] float32, finite.
        support: [n] int64 interactions behind each vector, if known.
        confidence: [n] float32 in [0, 1], if known.
        metadata: provenance, e.g. ``{"geometry": "cosine"}``; a table of users names ``USERS_METADATA``.
        id_column: what the ids are called on disk, and with it whose they are.
        level: [n] float32 added to each item's score whatever is asked, if any: one more coordinate of the vectors,
            against which a query has 1.
    """

    ids: pd.Index
    vectors: np.ndarray
    support: np.ndarray | None = None
    confidence: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    id_column: IdColumn = "item_id"
    level: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.id_column == names.USER_ID and (self.support is None or _lacking(self.metadata)):
            raise ValueError(f"a table of users has support, and says in its metadata: {', '.join(USERS_METADATA)}")

    @classmethod
    def read(cls, path: Path, *, id_column: IdColumn = "item_id") -> EmbeddingTable:
        """Read and check a table.

        Raises:
            UserError: a column is missing, ids repeat, widths differ, or a value is not finite or out of its range;
                or a table of users does not say what its vectors are compared with.
        """
        table = read_table(path)
        whose = id_column.removesuffix("_id")
        for column in (id_column, names.EMBEDDING, *((names.SUPPORT,) if id_column == names.USER_ID else ())):
            if column not in table.column_names:
                raise UserError(
                    f"{path}: column '{column}' is missing (found: {', '.join(table.column_names)})",
                    remedy=f"a table of {whose} vectors has one row each: {id_column} and a float32 list 'embedding'"
                    + (", and support" if column == names.SUPPORT else ""),
                )
        metadata = read_metadata(path)
        if id_column == names.USER_ID and (lacking := _lacking(metadata)):
            raise UserError(
                f"{path}: the file's metadata lack {', '.join(lacking)}",
                remedy="say how user vectors compare with which table of item vectors: see user_embeddings.yaml",
            )
        ids = pd.Index(table[id_column].to_pandas())
        if ids.hasnans or not ids.is_unique:
            bad = ids[ids.duplicated()][:3].tolist()
            raise UserError(
                f"{path}: column '{id_column}' has nulls or repeats, e.g. {bad}", remedy=f"one row {_an(whose)}"
            )
        column = table[names.EMBEDDING].combine_chunks()
        if len(column) == 0:
            raise UserError(f"{path}: the table has no rows")
        if (
            not pa.types.is_list(column.type)
            and not pa.types.is_fixed_size_list(column.type)
            and not pa.types.is_large_list(column.type)
        ):
            raise UserError(f"{path}: column 'embedding' is {column.type}, not a list of float32")
        widths = np.unique(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
        if len(widths) != 1 or widths[0] == 0:
            raise UserError(f"{path}: column 'embedding' has rows of several widths: {widths[:5].tolist()}")
        vectors = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(ids), -1)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            raise UserError(
                f"{path}: column 'embedding' has NaN or infinite values in {len(rows)} of {len(ids)} rows, "
                f"first {whose} ids {ids[rows[:3]].tolist()}",
                remedy=f"drop those {whose}s from the table: {_an(whose)} without a vector is simply absent",
            )

        support = _numbers(table, names.SUPPORT, path, ids, whose=whose, must_be="a whole number, 0 or more")
        confidence = _numbers(table, names.CONFIDENCE, path, ids, whose=whose, must_be="a number from 0 to 1")
        level = _numbers(table, names.LEVEL, path, ids, whose=whose, must_be="a number")
        return cls(
            ids,
            vectors,
            None if support is None else support.astype(np.int64),
            None if confidence is None else confidence.astype(np.float32),
            metadata,
            id_column,
            None if level is None else level.astype(np.float32),
        )

    def write(self, path: Path) -> None:
        """Write atomically as one row an item or user."""
        values = pa.array(np.ascontiguousarray(self.vectors, dtype=np.float32).ravel())
        columns: dict[str, Any] = {
            self.id_column: pa.array(self.ids),
            names.EMBEDDING: pa.FixedSizeListArray.from_arrays(values, self.vectors.shape[1]),
        }
        if self.support is not None:
            columns[names.SUPPORT] = pa.array(self.support, pa.int64())
        if self.confidence is not None:
            columns[names.CONFIDENCE] = pa.array(self.confidence, pa.float32())
        if self.level is not None:
            columns[names.LEVEL] = pa.array(self.level, pa.float32())
        write_table(pa.table(columns), path, metadata=self.metadata)

    def align(self, ids: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        """Vectors in the order of ``ids``.

        Returns:
            [len(ids), d] float32, zero where an id is absent, and [len(ids)] bool, true where present.
        """
        rows = self.ids.get_indexer(ids)
        present = rows >= 0
        vectors = np.zeros((len(ids), self.vectors.shape[1]), dtype=np.float32)
        vectors[present] = self.vectors[rows[present]]
        return vectors, present

    def align_level(self, ids: pd.Index) -> np.ndarray | None:
        """[len(ids)] float64 levels in the order of ``ids``, 0 where an id is absent; None where the table has none."""
        if self.level is None:
            return None
        rows = self.ids.get_indexer(ids)
        return np.where(rows >= 0, self.level[rows], 0.0).astype(np.float64)


def _lacking(metadata: Mapping[str, Any]) -> list[str]:
    return [key for key in USERS_METADATA if not metadata.get(key)]


def _an(noun: str) -> str:
    return f"an {noun}" if noun == "item" else f"a {noun}"


def _numbers(table: pa.Table, name: str, path: Path, ids: pd.Index, *, whose: str, must_be: str) -> np.ndarray | None:
    """[n] float64 of an optional column of support, confidence or level, checked; None if there is no such column.

    One null among them would make a weighted mean, and with it every vector, NaN.
    """
    if name not in table.column_names:
        return None
    column = table[name]
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise UserError(f"{path}: column '{name}' is {kind}, not a number", remedy=f"write '{name}' as numbers")
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()  # null becomes NaN
    holds = {
        names.SUPPORT: (values >= 0) & (values == np.floor(values)),
        names.CONFIDENCE: (values >= 0) & (values <= 1),
        names.LEVEL: np.isfinite(values),
    }[name]
    bad = np.flatnonzero(~(np.isfinite(values) & holds))
    if len(bad):
        raise UserError(
            f"{path}: column '{name}' has nulls or values that are not {must_be} in {len(bad)} of {len(ids)} rows, "
            f"first {whose} ids {ids[bad[:3]].tolist()}",
            remedy=f"give every row {must_be}, or drop those {whose}s"
            + ("" if whose == "user" else f", or leave the column '{name}' out"),
        )
    return values
