"""Converting the columns of a block, with every value that does not convert noted where the user finds it."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from recdistill.contracts.violations import SHOWN, Violations
from recdistill.ingest.convert import TimeUnit, not_text, to_ids, to_lists, to_numbers, to_text, to_times
from recdistill.ingest.readers import Block, Source


def note(
    source: Source, column: str, rule: str, broken: np.ndarray, block: Block, into: Violations, remedy: str
) -> None:
    """Note raw values of a block that could not be converted."""
    rows = np.flatnonzero(broken)
    if len(rows):
        raw = block.table[column]
        into.add(
            file=source.shown,
            column=column,
            rule=rule,
            count=len(rows),
            rows=block.rows[rows[:SHOWN]],
            values=[raw[int(row)].as_py() for row in rows[:SHOWN]],
            remedy=remedy,
        )


class Columns:
    """The columns of a block in canonical types; what does not convert is null, and noted once.

    Attributes:
        broken: [n] bool, rows with a value that did not convert.
    """

    def __init__(self, source: Source, block: Block, into: Violations) -> None:
        self._source, self._block, self._into = source, block, into
        self._numbers: dict[str, pa.Array] = {}
        self._texts: dict[str, pa.Array] = {}
        self.broken = np.zeros(len(block.rows), dtype=bool)

    def note(self, column: str, rule: str, broken: np.ndarray, remedy: str) -> None:
        """Note values of a column that break a rule, and their rows as broken."""
        note(self._source, column, rule, broken, self._block, self._into, remedy)
        self.broken |= broken

    def text(self, column: str) -> pa.Array:
        """[n] string."""
        if column not in self._texts:
            self._texts[column], broken = to_text(self._block.table[column])
            self._note_type(column, broken)
        return self._texts[column]

    def ids(self, column: str) -> pa.Array:
        """[n] int64 or string."""
        raw = self._block.table[column]
        ids, broken = to_ids(raw if pa.types.is_integer(raw.type) else self.text(column))
        remedy = "a quote is unbalanced: set quote: null if quotes mean nothing"
        self.note(column, "line break within an id", broken, remedy)
        return ids

    def lists(self, column: str, *, separator: str | None = None) -> pa.Array:
        """[n] list<string>, never null."""
        lists, broken = to_lists(self._block.table[column], separator=separator)
        self._note_type(column, broken)
        return lists

    def numbers(self, column: str) -> pa.Array:
        """[n] float64."""
        if column not in self._numbers:
            self._numbers[column], broken = to_numbers(self._block.table[column])
            remedy = "mend the values, or name those that mean 'no value' in null_values"
            self.note(column, "not a number", broken, remedy)
        return self._numbers[column]

    def times(self, column: str, *, unit: TimeUnit, origin: datetime) -> pa.Array:
        """[n] timestamp[us, UTC]."""
        times, broken = to_times(self._block.table[column], unit=unit, origin=origin)
        remedy = "set timestamp_unit to s, ms, us or iso, as the column is written"
        self.note(column, f"not a time in {'ISO 8601' if unit == 'iso' else unit}", broken, remedy)
        return times

    def _note_type(self, column: str, broken: np.ndarray) -> None:
        rule, remedy = not_text(self._block.table[column].type)
        self.note(column, rule, broken, remedy)
