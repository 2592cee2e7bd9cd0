"""Metric records: what the evaluate stage writes and ``summary`` reads (contract ``metric_records``)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import write_table

SCHEMA = pa.schema([
    (names.SUBJECT, pa.string()),
    (names.BENCHMARK, pa.string()),
    (names.SPLIT, pa.string()),
    (names.METRIC, pa.string()),
    (names.SEED, pa.int64()),
    (names.FOLD, pa.string()),
    (names.UNIT, pa.string()),
    (names.TOTAL, pa.float64()),
    (names.COUNT, pa.float64()),
    (names.LOW, pa.float64()),
    (names.HIGH, pa.float64()),
])


@dataclass
class Records:
    """Collects the records of one seed and fold."""

    seed: int
    fold: str
    values: dict[str, float] = field(default_factory=dict)
    _tables: list[pa.Table] = field(default_factory=list)

    def add(
        self, subject: str, benchmark: str, split: str, metric: str,
        unit: np.ndarray, unit_ids: pd.Index, values: np.ndarray,
    ) -> None:
        """A decomposable metric: the mean of ``values``, a record a unit.

        Args:
            unit: [n] row of ``unit_ids`` each value belongs to.
            values: [n] float or bool.
        """
        if not len(values):
            return
        rows, place = np.unique(unit, return_inverse=True)
        total = np.bincount(place, weights=values.astype(np.float64))
        count = np.bincount(place).astype(np.float64)
        self.values[f"{subject}/{benchmark}/{split}/{metric}"] = float(total.sum() / count.sum())
        self._append((subject, benchmark, split, metric), unit_ids[rows].astype(str).tolist(), total, count)

    def whole(self, subject: str, benchmark: str, split: str, metric: str, value: float) -> None:
        """A figure that does not divide by unit; one that is not finite is left out."""
        if math.isfinite(value):
            self.values[f"{subject}/{benchmark}/{split}/{metric}"] = value
            self._append((subject, benchmark, split, metric), [None], np.array([value]), np.array([1.0]))

    def write(self, path: Path) -> None:
        """Write everything collected as one table."""
        table = pa.concat_tables([SCHEMA.empty_table(), *self._tables])
        write_table(table, path, metadata={"seed": self.seed, "fold": self.fold})

    def _append(
        self, key: tuple[str, str, str, str], units: list[str] | list[None], total: np.ndarray, count: np.ndarray
    ) -> None:
        size = len(units)
        constant = [pa.repeat(pa.scalar(part), size) for part in (*key, self.seed, self.fold)]
        unknown = pa.nulls(size, pa.float64())
        columns = [*constant, pa.array(units, pa.string()), pa.array(total), pa.array(count), unknown, unknown]
        self._tables.append(pa.Table.from_arrays(columns, schema=SCHEMA))
