"""An interaction table in memory, with rows numbered for one stage's own use.

Shapes: n events, U users, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.events import decoded
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError

MAX_BEHAVIOURS = 31
# What a log needs of an interaction table.
COLUMNS = (names.USER_ID, names.ITEM_ID, names.TIMESTAMP, names.BEHAVIOURS)


@dataclass(frozen=True)
class Log:
    """Events sorted by (user, time); the file's order stands among events of equal time.

    Attributes:
        user_ids: [U] ids; ``user`` indexes them.
        item_ids: [I] ids; ``item`` indexes them.
        user, item: [n] int32 row numbers.
        time: [n] int64 microseconds since 1970, UTC.
        behaviours: [n] int32 bit mask over ``behaviour_names``; 0 = no positive behaviour.
        value: [n] float32 (rating and the like), NaN where not given.
    """

    user_ids: pd.Index
    item_ids: pd.Index
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    behaviours: np.ndarray
    behaviour_names: tuple[str, ...]
    value: np.ndarray

    @classmethod
    def read(
        cls,
        paths: Sequence[Path],
        *,
        item_ids: pd.Index | None = None,
        user_ids: pd.Index | None = None,
        only_users: pd.Index | None = None,
    ) -> Log:
        """Read one or several ``interactions`` tables as one log.

        Args:
            paths: Parquet files; their events are concatenated, then sorted stably by (user, time).
            item_ids: numbering of items to use; None numbers the items that occur, sorted.
            user_ids: the same for users.
            only_users: the users whose events are read; None: all.

        Raises:
            UserError: an item or user is not in the numbering given, or there are too many behaviour labels.
        """
        only = None if only_users is None else (names.USER_ID, only_users)
        return cls.of([read_table(path, only=only) for path in paths], item_ids=item_ids, user_ids=user_ids)

    @classmethod
    def of(
        cls, tables: Sequence[pa.Table], *, item_ids: pd.Index | None = None, user_ids: pd.Index | None = None
    ) -> Log:
        """As :meth:`read`, of tables that were read already."""
        chosen = []
        for table in tables:
            if names.VALUE not in table.column_names:
                table = table.append_column(names.VALUE, pa.nulls(len(table), pa.float32()))
            chosen.append(table.select([*COLUMNS, names.VALUE]))
        table = pa.concat_tables(chosen, promote_options="permissive")
        user_ids, user = _number(table[names.USER_ID], user_ids, "user")
        item_ids, item = _number(table[names.ITEM_ID], item_ids, "item")
        time = table[names.TIMESTAMP].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        labels, mask = _bit_mask(table[names.BEHAVIOURS])
        order = np.lexsort((time, user))  # lexsort is stable
        value = table[names.VALUE].cast(pa.float32()).to_numpy(zero_copy_only=False)
        return cls(user_ids, item_ids, user[order], item[order], time[order], mask[order], labels, value[order])

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def starts(self) -> np.ndarray:
        """[U + 1] int64: user u's events are rows ``starts[u]:starts[u + 1]``."""
        return np.searchsorted(self.user, np.arange(len(self.user_ids) + 1)).astype(np.int64)

    @cached_property
    def behaviour_count(self) -> np.ndarray:
        """[n] int64: how many positive behaviours each event carries."""
        return np.bitwise_count(self.behaviours).astype(np.int64)

    def positive(self, at_least: int = 1) -> np.ndarray:
        """[n] bool: events with at least that many positive behaviours."""
        return self.behaviour_count >= at_least

    def take(self, rows: np.ndarray) -> Log:
        """The same numbering with only some events (bool mask, or ascending row numbers)."""
        return Log(
            self.user_ids,
            self.item_ids,
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.behaviours[rows],
            self.behaviour_names,
            self.value[rows],
        )


def _number(column: pa.ChunkedArray, ids: pd.Index | None, what: str) -> tuple[pd.Index, np.ndarray]:
    column = decoded(column)
    # Each distinct id once: pandas would make a Python string of every event's.
    distinct = pc.unique(column)
    values = pd.Index(distinct.to_pandas())
    if ids is None:
        ids = values.sort_values()
    rows = ids.get_indexer(values)
    if (rows < 0).any():
        unknown = values[rows < 0]
        raise UserError(
            f"interactions name {len(unknown)} {what} ids that the {what} table does not have, "
            f"e.g. {unknown[:3].tolist()}",
            remedy=f"add those {what}s, or drop their interactions",
        )
    return ids, rows.astype(np.int32)[pc.index_in(column, value_set=distinct).to_numpy()]


def _bit_mask(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray]:
    lists = column.combine_chunks()
    flat = lists.flatten()
    labels = sorted(label for label in pc.unique(flat).to_pylist() if label is not None)
    if len(labels) > MAX_BEHAVIOURS:
        raise UserError(
            f"interactions carry {len(labels)} behaviour labels; at most {MAX_BEHAVIOURS} are supported",
            remedy="map rare labels together in the recipe's data.behaviours",
        )
    codes = pc.index_in(flat, value_set=pa.array(labels, flat.type)).to_numpy(zero_copy_only=False)
    mask = np.zeros(len(lists), dtype=np.int32)
    if len(codes):
        np.bitwise_or.at(mask, pc.list_parent_indices(lists).to_numpy(), (1 << codes.astype(np.int64)).astype(np.int32))
    return tuple(labels), mask
