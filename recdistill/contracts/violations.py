"""What is wrong with the data, collected over all files and told in one report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recdistill.errors import UserError

SHOWN = 5  # first bad rows and values that are kept
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Violation:
    """One rule broken in one column of one file.

    Attributes:
        file: the file as the user named it.
        column: the file's own column; empty where the file as a whole is meant.
        rule: what should hold and does not, in few words.
        count: how many rows (or files, for a rule about a file) break it.
        rows: numbers of the first of them, counted from 1 without the header; () where rows mean nothing.
        values: what stands there, as text.
        remedy: what to do.
    """

    file: str
    column: str
    rule: str
    count: int = 1
    rows: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    remedy: str = ""

    def report(self) -> str:
        """The violation in one or a few lines, without the file."""
        head = f"{self.column}: {self.rule}" if self.column else self.rule
        if self.rows:
            head += f" · {self.count:,} {'row' if self.count == 1 else 'rows'}"
        lines = [f"  {head}"]
        if self.rows:
            shown = [f"row {row}" for row in self.rows]
            if self.values:
                shown = [f"{row}: {value}" for row, value in zip(shown, self.values, strict=True)]
            lines.append(f"    {' · '.join(shown)}{' …' if self.count > len(shown) else ''}")
        elif self.values:
            lines.append(f"    {' · '.join(self.values)}")
        if self.remedy:
            lines.append(f"    remedy: {self.remedy}")
        return "\n".join(lines)


class ContractViolations(UserError):
    """The data do not satisfy their contracts; the message lists every violation."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        by_file: dict[str, list[Violation]] = {}
        for violation in self.violations:
            by_file.setdefault(violation.file, []).append(violation)
        count = len(self.violations)
        head = (
            f"the data have {count} {'fault' if count == 1 else 'faults'} (rows are counted from 1, without the header)"
        )
        parts = ["\n".join([file, *(v.report() for v in found)]) for file, found in by_file.items()]
        super().__init__("\n".join([head, *parts]))


class Violations:
    """A collector. What breaks the same rule in the same column of the same file becomes one entry."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Violation] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Violation]:
        return iter(self._found.values())

    def add(
        self,
        *,
        file: str,
        column: str = "",
        rule: str,
        remedy: str = "",
        count: int = 1,
        rows: Sequence[int] | np.ndarray = (),
        values: Sequence[object] = (),
    ) -> None:
        """Note a violation; of rows and values the first few are kept."""
        new = Violation(
            file,
            column,
            rule,
            count,
            tuple(int(row) for row in rows[:SHOWN]),
            tuple(show(v) for v in values[:SHOWN]),
            remedy,
        )
        key = (file, column, rule)
        old = self._found.get(key)
        if old is not None:
            new = replace(
                old,
                count=old.count + new.count,
                rows=(old.rows + new.rows)[:SHOWN],
                values=(old.values + new.values)[:SHOWN],
            )
        self._found[key] = new

    def raise_if_any(self) -> None:
        """Raise ContractViolations if anything was noted."""
        if self._found:
            raise ContractViolations(self._found.values())


def show(value: object) -> str:
    """A value as it stands in a report: quoted if text, cut if long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
