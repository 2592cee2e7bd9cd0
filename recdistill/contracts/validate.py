"""Checking Parquet tables against their contracts; all violations of a table are found before any is told.

Memory: a batch of 131,072 rows, and the primary key's columns of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.violations import ContractViolations, Violation, Violations

__all__ = ["BATCH", "ContractViolations", "Violation", "latest_allowed", "validate", "validate_file", "violations_of"]

BATCH = 1 << 17  # rows of a chunk read from disk


def validate_file(
    path: Path,
    name: str,
    *,
    into: Violations,
    latest: datetime | None = None,
    known: Mapping[str, pa.Array] | None = None,
) -> int:
    """Check a Parquet file, or a folder of part files, against the contract ``name``.

    Args:
        into: takes the violations; latest, known: see :class:`Checker`.

    Returns:
        the number of rows read.
    """
    checker = Checker(load_contract(name), into=into, latest=latest, known=known)
    try:
        source = ds.dataset(path, format="parquet")
        if not source.count_rows():
            checker.add(source.schema.empty_table(), Origin(str(path), np.empty(0, np.int64)))
        for batch in source.to_batches(batch_size=BATCH, batch_readahead=2, fragment_readahead=1):
            rows = np.arange(checker.rows + 1, checker.rows + len(batch) + 1)
            checker.add(pa.Table.from_batches([batch]), Origin(str(path), rows))
    except (OSError, pa.ArrowInvalid) as error:
        there = path.exists()
        into.add(
            file=str(path),
            rule=f"not a readable Parquet table ({error})" if there else "no such file",
            remedy="write it again: it may have been cut short"
            if there
            else "check the path, or run the stage that writes it",
        )
        return checker.rows
    checker.finish()
    return checker.rows


def violations_of(path: Path, name: str, *, known: Mapping[str, pa.Array] | None = None) -> list[Violation]:
    """All violations of the contract ``name`` in a Parquet table."""
    into = Violations()
    validate_file(path, name, into=into, known=known)
    return list(into)


def validate(path: Path, name: str, *, known: Mapping[str, pa.Array] | None = None) -> None:
    """Check a Parquet table.

    Raises:
        ContractViolations: the table breaks the contract ``name``; all violations are listed.
    """
    into = Violations()
    validate_file(path, name, into=into, known=known)
    into.raise_if_any()


def latest_allowed(tolerance_hours: float) -> datetime:
    """Now, plus a tolerance for clocks that go wrong."""
    return datetime.now(UTC) + timedelta(hours=tolerance_hours)
