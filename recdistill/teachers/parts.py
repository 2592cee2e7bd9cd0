"""Positives on disk, in parts of whole users, for logs that outgrow memory.

A folder of parts holds ``part-00000.parquet`` … (one row a user: ``user_id`` and the lists ``items`` (vocabulary
rows), ``behaviours`` and ``times``), ``vocabulary.parquet`` (``item_id``, ``support``), ``counts.parquet`` (how many
users of each part have how many positives) and ``manifest.json``, which is written last: with it the folder is whole.
Users are in the order of their ids over all parts. Put together, the parts equal :meth:`Positives.of` of the log.

Shapes: P parts, n positives, U users, V vocabulary items, I catalogue items.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recdistill.contracts import names
from recdistill.contracts.by_user import user_bounds, user_chunks
from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.log import COLUMNS, Log
from recdistill.contracts.tables import read_table, write_json, write_table
from recdistill.errors import UserError
from recdistill.teachers.positives import Positives, nobody_has_two

VERSION = 1
MANIFEST, VOCABULARY, COUNTS = "manifest.json", "vocabulary.parquet", "counts.parquet"
_ITEMS, _TIMES, _PART, _POSITIVES, _USERS = "items", "times", "part", "positives", "users"


@dataclass(frozen=True)
class Parts:
    """A whole folder of parts.

    Attributes:
        users, positives: [P] of each part.
        times: of the first positive and of the last, microseconds since 1970, UTC.
    """

    root: Path
    users: tuple[int, ...]
    positives: tuple[int, ...]
    times: tuple[int, int]

    @classmethod
    def open(cls, folder: Path) -> Parts:
        """Find the parts that :func:`write_parts` wrote.

        Raises:
            UserError: there are none, or another version wrote them.
        """
        told = _manifest(folder)
        if told is None or told["version"] != VERSION:
            raise UserError(f"{folder}: no parts of this version", remedy="run the stage that writes them again")
        first, last = told["times"]
        return cls(folder, tuple(told["users"]), tuple(told["positives"]), (first, last))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def first_user(self) -> np.ndarray:
        """[P + 1] int64: part p's users are numbers ``first_user[p] : first_user[p + 1]``."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.users, dtype=np.int64)])

    @cached_property
    def item_ids(self) -> pd.Index:
        """[V] the vocabulary."""
        return pd.Index(read_table(self.root / VOCABULARY)[names.ITEM_ID].to_pandas())

    @cached_property
    def support(self) -> Tensor:
        """[V] int64 positive interactions of each item."""
        return torch.from_numpy(read_table(self.root / VOCABULARY)[names.SUPPORT].to_numpy().copy())

    def histogram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Three int64 arrays of one length: part, number of positives, users of that part with so many."""
        table = read_table(self.root / COUNTS)
        part, positives, users = (table[name].to_numpy() for name in (_PART, _POSITIVES, _USERS))
        return part, positives, users

    def user_ids(self, part: int) -> pd.Index:
        """[users of the part] ids."""
        return pd.Index(read_table(self._path(part), columns=[names.USER_ID])[names.USER_ID].to_pandas())

    def read(self, part: int) -> Positives:
        """One part. Memory: about 50 bytes a positive while it is read, 20 after."""
        (count,), (users,) = (np.array([of[part]]) for of in (self.positives, self.users))
        item, behaviours, time = torch.empty(count, dtype=torch.int64), torch.empty(count), torch.empty(count).long()
        counts = torch.empty(users, dtype=torch.int64)
        self.fill(part, item=item, behaviours=behaviours, time=time, counts=counts)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return Positives(self.item_ids, self.user_ids(part), item, behaviours, time, starts, self.support)

    def fill(self, part: int, *, item: Tensor, behaviours: Tensor, time: Tensor, counts: Tensor) -> None:
        """Read one part into tensors of its size, in this thread alone; user ids stay on disk.

        Raises:
            UserError: the file is missing, unreadable, or not the one that the manifest knows.
        """
        path = self._path(part)
        table = read_table(path, columns=[_ITEMS, names.BEHAVIOURS, _TIMES], threads=False)
        lists = {name: table[name].combine_chunks() for name in table.column_names}
        if len(table) != self.users[part] or any(len(of.values) != self.positives[part] for of in lists.values()):
            raise UserError(f"{path}: not the part that {MANIFEST} names", remedy=f"delete {self.root}")
        for name, out in ((_ITEMS, item), (names.BEHAVIOURS, behaviours), (_TIMES, time)):
            values = lists[name].values
            out.numpy()[:] = (values.cast(pa.int64()) if name == _TIMES else values).to_numpy()
        counts.numpy()[:] = _lengths(table)

    def _path(self, part: int) -> Path:
        return self.root / f"part-{part:05d}.parquet"


def write_parts(
    fold: Fold,
    fit: Fit,
    folder: Path,
    *,
    key: str,
    min_behaviours: int,
    last: int,
    seed: int,
    part_positives: int,
    chunk_events: int = 1 << 20,
) -> Parts:
    """Write a fit's positives as parts; parts of the same key and arguments that are whole are left as they are.

    The log is read twice: its ids to find the vocabulary and where to cut, then chunk by chunk of users. Tables that
    are sorted by user, as the split stage leaves them, are decoded once more in all; others once a chunk.
    Memory: about 200 bytes an event of a chunk, 60 a positive of a part, 150 a catalogue item and 150 MB of Arrow's;
    by the log's length only 32 user ids a chunk and a count a user length and part. A user's events are one chunk's.

    Args:
        key: fingerprint of the fold's data.
        min_behaviours, last, seed: as :meth:`Positives.of`.
        part_positives: a part has the fewest users that have so many positives together.
        chunk_events: about as many are read at once.

    Raises:
        UserError: no user has two positives, or an interaction names an item that the catalogue lacks.
    """
    asked: dict[str, Any] = {
        "version": VERSION, "key": key, "fit": fit, "min_behaviours": min_behaviours, "last": last, "seed": seed,
        "part_positives": part_positives,
    }  # fmt: skip
    told = _manifest(folder)
    if told is not None and all(told.get(name) == value for name, value in asked.items()):
        return Parts.open(folder)
    _clear(folder)
    files = [path for path in fold.training_files(fit) if pq.read_metadata(path).num_rows]
    catalogue = fold.item_ids()
    known, bounds = _survey(files, catalogue, chunk_events=chunk_events)
    vocabulary = catalogue[known]
    support = np.zeros(len(vocabulary), dtype=np.int64)
    times: list[int] = []  # the first and the last so far

    def chunks() -> Iterator[pa.Table]:
        for tables in user_chunks(files, bounds, columns=COLUMNS):
            log = Log.of(tables, item_ids=vocabulary)
            found = Positives.of(log, min_behaviours=min_behaviours, last=last, seed=seed, vocabulary=vocabulary)
            support[:] += found.support.numpy()
            if len(found.time):
                times.extend((int(found.time.min()), int(found.time.max())))
                times[:] = [min(times), max(times)]
            yield _rows(found)

    users, positives, histogram = [], [], []
    for part, table in enumerate(_cut(chunks(), positives=part_positives)):
        write_table(table, folder / f"part-{part:05d}.parquet")
        lengths, of_each = np.unique(_lengths(table), return_counts=True)
        users.append(len(table))
        positives.append(int((lengths * of_each).sum()))
        histogram.append({_PART: np.full(len(lengths), part), _POSITIVES: lengths, _USERS: of_each})
    if not any((of[_POSITIVES] >= 2).any() for of in histogram):
        raise nobody_has_two(min_behaviours)
    write_table(pa.concat_tables(pa.table(of) for of in histogram), folder / COUNTS)
    columns = {names.ITEM_ID: pa.array(vocabulary), names.SUPPORT: pa.array(support)}
    write_table(pa.table(columns), folder / VOCABULARY)
    write_json(asked | {"users": users, "positives": positives, "times": times}, folder / MANIFEST)
    return Parts.open(folder)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told


def _clear(folder: Path) -> None:
    """Remove what an earlier preparation left, the manifest first: without it the rest counts for nothing."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for pattern in ("part-*.parquet", ".*.tmp"):
        for path in folder.glob(pattern):
            path.unlink()


def _survey(files: list[Path], catalogue: pd.Index, *, chunk_events: int) -> tuple[np.ndarray, pa.Array]:
    """[V] catalogue rows that occur, ascending, and the user ids after which to cut, ascending."""
    occurs = np.zeros(len(catalogue), dtype=bool)

    def visit(batch: pa.RecordBatch) -> None:
        found = catalogue.get_indexer(pd.Index(pc.unique(batch[names.ITEM_ID]).to_pandas()))
        occurs[found[found >= 0]] = True  # an unknown item is told of when its chunk is read

    bounds = user_bounds(files, chunk_events=chunk_events, columns=[names.ITEM_ID], visit=visit)
    return np.flatnonzero(occurs), bounds


def _rows(found: Positives) -> pa.Table:
    starts = pa.array(found.starts.numpy(), pa.int32())
    columns = {
        _ITEMS: pa.array(found.item.numpy().astype(np.int32)),
        names.BEHAVIOURS: pa.array(found.behaviours.numpy().astype(np.uint8)),
        _TIMES: pa.array(found.time.numpy()).cast(pa.timestamp("us", "UTC")),
    }
    lists = {name: pa.ListArray.from_arrays(starts, values) for name, values in columns.items()}
    return pa.table({names.USER_ID: pa.array(found.user_ids), **lists})


def _cut(tables: Iterator[pa.Table], *, positives: int) -> Iterator[pa.Table]:
    """Regroup users: each table has the fewest that reach so many positives."""
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(_lengths(table))])
        first = 0
        while first < len(table):
            stop = min(int(np.searchsorted(ends, ends[first] + positives - have)), len(table))
            waiting.append(table.slice(first, stop - first))
            have += int(ends[stop] - ends[first])
            first = stop
            if have >= positives:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, have = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _lengths(table: pa.Table) -> np.ndarray:
    """[users] int64 positives of each row."""
    return pc.list_value_length(table[_ITEMS]).to_numpy().astype(np.int64)
