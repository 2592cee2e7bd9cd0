"""The exported match features and reactions, looked up by user, item and time.

Shapes: m exported rows, n rows asked for, c columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.plugins.ids import own_ids, positions

_PREFIXES = ("match_", "reaction_")
_KEYS = (names.USER_ID, names.ITEM_ID, names.TIMESTAMP)


class MatchRows:
    """Index over a ``match_features`` table. Where a key stands twice, its rows are the same.

    Attributes:
        columns: names of the c columns.
        events: m.
        first: int64 microseconds, the earliest time of the m rows.

    Memory: the table, and 60 bytes a row.

    Raises:
        UserError: the table is missing or empty, or is not one of match features.
    """

    def __init__(self, path: Path) -> None:
        table = read_table(path)
        self.columns = tuple(name for name in table.column_names if name.startswith(_PREFIXES))
        if not self.columns or not set(_KEYS) <= set(table.column_names):
            raise UserError(
                f"{path}: no table of match features (found: {', '.join(table.column_names)})",
                remedy="see data_contracts/match_features.yaml",
            )
        if not len(table):
            raise UserError(f"{path}: the table has no rows", remedy="leave 'match' out of the parts")
        self._users, user = _numbered(table[names.USER_ID], f"{path}, column '{names.USER_ID}'")
        self._items, item = _numbered(table[names.ITEM_ID], f"{path}, column '{names.ITEM_ID}'")
        time = table[names.TIMESTAMP].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        self.events, self.first = len(time), int(time.min())
        # Ranks of what occurs make (user, item, time) one int64 key without overflow.
        self._pairs, pair = np.unique(user * np.int64(len(self._items)) + item, return_inverse=True)
        self._times, at = np.unique(time, return_inverse=True)
        self._found, rows = np.unique(pair * np.int64(len(self._times)) + at, return_index=True)
        self._values = np.stack(
            [table[name].cast(pa.float32()).to_numpy().astype(np.float32)[rows] for name in self.columns], axis=1
        )

    def __call__(self, *, user: pd.Series, item: pd.Series, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look rows up.

        Args:
            user, item: [n] ids.
            time: [n] int64 microseconds.

        Returns:
            [n, c] float32, NaN where a row is not in the table, and [n] bool: whether it is.

        Raises:
            UserError: ids are null, or of another kind than the table's.
        """
        of_user = positions(user, known=self._users, what=f"column '{user.name}'")
        of_item = positions(item, known=self._items, what=f"column '{item.name}'")
        pair, found = _place(self._pairs, of_user * np.int64(len(self._items)) + of_item)
        at, moment = _place(self._times, time)
        row, there = _place(self._found, pair * np.int64(len(self._times)) + at)
        found &= moment & there & (of_user >= 0) & (of_item >= 0)
        return np.where(found[:, None], self._values[row], np.nan).astype(np.float32), found


def _numbered(column: pa.ChunkedArray, what: str) -> tuple[pd.Index, np.ndarray]:
    ids = own_ids(column.to_pandas(), what=what)
    codes, known = pd.factorize(ids)
    return pd.Index(known), codes.astype(np.int64)


def _place(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value stands in a sorted array, and whether it does; the place is one of the array's in any case."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return at, known[at] == asked
