"""Checking one table against its contract, chunk by chunk, so that memory stays bounded."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import rules
from recdistill.contracts.schema import Column, Contract, Rule
from recdistill.contracts.violations import SHOWN, Violations

_SAYS = {
    "finite": ("NaN or infinite", "drop those rows, or leave the value out: what is missing is null or absent"),
    "not_before": (
        "before {time}",
        "check the timestamp's unit (s, ms, us) and column; if times count from another zero, set timestamp_origin",
    ),
    "not_in_future": (
        "in the future",
        "check the timestamp's unit (s, ms, us) and column, and this machine's clock; "
        "data.future_tolerance_hours allows for skew",
    ),
    "not_empty_lists": ("an empty list", "drop those rows"),
    "references": ("not in {to}", "add the missing rows to {to}, or leave out what refers to them"),
    "file_exists": ("no such file", "restore the file, or leave the row out"),
}
_REMEDIES = {
    "interactions.item_id.references": "add those items to the items file, or set data.unknown_items to drop or add",
    "queries.item_id.references": "add those items to the items file, or set data.unknown_items to drop",
}


@dataclass(frozen=True)
class Origin:
    """Where the rows of a chunk come from, so that a violation names what the user knows.

    Attributes:
        file: the file as the user named it.
        columns: contract column → the file's own column, where they differ.
        rows: [n] the rows' numbers in the file.
    """

    file: str
    rows: np.ndarray
    columns: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """The file's own name of a contract column."""
        return self.columns.get(name, name)


class Checker:
    """Checks one table that arrives in chunks, perhaps from several files.

    Memory: one chunk, and the primary key's columns of all rows.

    Args:
        contract: the table's contract.
        into: takes the violations.
        latest: the latest time allowed; now, if None.
        known: ids by ``table.column``, for references.
        ignore: columns that are not to be checked.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        into: Violations,
        latest: datetime | None = None,
        known: Mapping[str, pa.Array] | None = None,
        ignore: Collection[str] = (),
    ) -> None:
        self._contract = contract
        self._into = into
        self._latest = latest or datetime.now(UTC)
        self._known = known or {}
        self._ignore = frozenset(ignore)
        self._keys: list[pd.DataFrame] = []
        self._origins: list[Origin] = []
        self._files: list[str] = []
        self._widths: dict[str, int] = {}
        self.rows = 0

    def add(self, chunk: pa.Table, origin: Origin) -> None:
        """Check the next rows."""
        self.rows += len(chunk)
        if origin.file not in self._files:
            self._files.append(origin.file)
        missing = [c for c in self._contract.missing(chunk.column_names) if c.name not in self._ignore]
        for column in missing:
            self._missing(column, chunk.column_names, origin)
        sound = set()
        for column, name in self._contract.present(chunk.column_names):
            if name not in self._ignore and self._right_type(column, name, chunk, origin):
                sound.add(name)
                self._check(column, name, _whole(chunk[name]), origin)
        for rule in self._contract.rules:
            if rule.name == "exactly_one" and sound.issuperset(rule.arguments["columns"]):
                self._exactly_one(rule, chunk, origin)
        key = list(self._contract.primary_key)
        if key and sound.issuperset(key):
            self._keys.append(chunk.select(key).to_pandas())
            self._origins.append(origin)

    def finish(self) -> None:
        """Check what only the whole table shows: duplicate keys, and that there are rows at all."""
        if self.rows == 0 and any(rule.name == "not_empty" for rule in self._contract.rules) and not len(self._into):
            self._into.add(
                file=", ".join(self._files) or self._contract.name,
                rule=f"no rows: the {self._contract.name} table would be empty",
                remedy="check that this is the right file and that it was written to the end",
            )
        if self._keys:
            self._duplicates(pd.concat(self._keys, ignore_index=True))

    def _missing(self, column: Column, found: Sequence[str], origin: Origin) -> None:
        near = difflib.get_close_matches(column.name, found, n=1)
        self._into.add(
            file=origin.file,
            column=column.name,
            rule="missing column",
            remedy=(f"did you mean '{near[0]}'? " if near else "") + f"columns found: {', '.join(found)}",
        )

    def _right_type(self, column: Column, name: str, chunk: pa.Table, origin: Origin) -> bool:
        kind = chunk.schema.field(name).type
        if column.accepts(kind):
            return True
        allowed = " or ".join(column.types)
        self._into.add(
            file=origin.file,
            column=origin.column(name),
            rule=f"wrong type: {kind} instead of {allowed}",
            count=len(chunk),
            rows=origin.rows[:SHOWN],
            values=chunk[name][:SHOWN].to_pylist(),
            remedy=f"write the column as {allowed}",
        )
        return False

    def _check(self, column: Column, name: str, values: pa.Array, origin: Origin) -> None:
        if column.required:
            self._note(name, "null", rules.is_null(values), values, origin, "fill the value in, or drop those rows")
        if pa.types.is_null(values.type):
            return
        if column.elements_required:
            self._note(
                name, "null within a list", rules.has_null_element(values), values, origin, "leave missing elements out"
            )
        if column.minimum is not None:
            self._note(
                name,
                f"below {column.minimum:g}",
                rules.is_below(values, column.minimum),
                values,
                origin,
                column.description,
            )
        if column.maximum is not None:
            self._note(
                name,
                f"above {column.maximum:g}",
                rules.is_above(values, column.maximum),
                values,
                origin,
                column.description,
            )
        if column.pattern is not None:
            broken = rules.does_not_match(values, column.pattern)
            self._note(name, f"does not match {column.pattern}", broken, values, origin, column.description)
        for rule in column.rules:
            if rule.name == "constant_width":
                self._width(name, values, origin)
                continue
            broken = rules.broken_by(rule.name, rule.arguments, values, latest=self._latest, known=self._known)
            says, remedy = (text.format_map(rule.arguments) for text in _SAYS[rule.name])
            remedy = _REMEDIES.get(f"{self._contract.name}.{name}.{rule.name}", remedy)
            self._note(name, says, broken, values, origin, remedy)

    def _width(self, name: str, values: pa.Array, origin: Origin) -> None:
        lengths = rules.list_lengths(values)
        first = lengths[lengths >= 0][:1]
        if first.size:
            width = self._widths.setdefault(name, int(first[0]))
            broken = (lengths >= 0) & (lengths != width)
            rows = np.flatnonzero(broken)
            self._into_add(
                name,
                f"lists of several widths (the first has {width})",
                rows,
                [f"{n} values" for n in lengths[rows[:SHOWN]]],
                origin,
                "write vectors of one width; a table holds one embedding space",
            )
            if width == 0:
                self._note(
                    name, "vectors without values", lengths == 0, values, origin, "leave items without a vector out"
                )

    def _note(self, name: str, rule: str, broken: np.ndarray, values: pa.Array, origin: Origin, remedy: str) -> None:
        if broken.any():
            rows = np.flatnonzero(broken)
            self._into_add(name, rule, rows, _shown(values.take(pa.array(rows[:SHOWN]))), origin, remedy)

    def _into_add(
        self, name: str, rule: str, rows: np.ndarray, values: Sequence[object], origin: Origin, remedy: str
    ) -> None:
        if len(rows):
            self._into.add(
                file=origin.file,
                column=origin.column(name),
                rule=rule,
                count=len(rows),
                rows=origin.rows[rows[:SHOWN]],
                values=values,
                remedy=remedy,
            )

    def _exactly_one(self, rule: Rule, chunk: pa.Table, origin: Origin) -> None:
        columns = list(rule.arguments["columns"])
        rows = np.flatnonzero(rules.not_exactly_one([_whole(chunk[name]) for name in columns]))
        if len(rows):
            self._into.add(
                file=origin.file,
                column=" / ".join(columns),
                rule="not exactly one of them is given",
                count=len(rows),
                rows=origin.rows[rows[:SHOWN]],
                remedy="give each row one of the two",
            )

    def _duplicates(self, keys: pd.DataFrame) -> None:
        repeats = np.flatnonzero(keys.duplicated().to_numpy() & keys.iloc[:, 0].notna().to_numpy())
        starts = np.cumsum([0, *(len(origin.rows) for origin in self._origins)])
        for part in np.unique(np.searchsorted(starts, repeats, side="right") - 1):
            origin = self._origins[part]
            here = repeats[(repeats >= starts[part]) & (repeats < starts[part + 1])]
            values = [row[0] if len(row) == 1 else tuple(row) for row in keys.iloc[here[:SHOWN]].to_numpy().tolist()]
            self._into.add(
                file=origin.file,
                column=", ".join(origin.column(name) for name in keys.columns),
                rule="duplicate key (rows that repeat an earlier one)",
                count=len(here),
                rows=origin.rows[here[:SHOWN] - starts[part]],
                values=values,
                remedy="keep one row for each key",
            )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _shown(values: pa.Array) -> list[object]:
    if pa.types.is_timestamp(values.type):
        return [value.isoformat() if value is not None else None for value in values.to_pandas()]
    return values.to_pylist()
