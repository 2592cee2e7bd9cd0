"""Metric records: what evaluate and rank write and the summary reads (contract ``metric_records``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import write_table

SCHEMA = pa.schema(
    [
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
    ]
)


@dataclass
class Records:
    """Collects the records of one seed and fold.

    Attributes:
        values: ``<subject>/<benchmark>/<split>/<metric>`` → figure, of everything collected.
        undefined: keys of figures that are not defined (nobody to ask, one class only); they are not written.
    """

    seed: int
    fold: str
    values: dict[str, float] = field(default_factory=dict)
    undefined: list[str] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)

    def add(
        self,
        subject: str,
        benchmark: str,
        split: str,
        metric: str,
        unit: np.ndarray,
        unit_ids: pd.Index,
        values: np.ndarray,
    ) -> None:
        """A decomposable metric: the mean of ``values``, a record a unit.

        Args:
            unit: [n] row of ``unit_ids`` each value belongs to.
            values: [n] float or bool.
        """
        rows, place = np.unique(unit, return_inverse=True)
        total = np.bincount(place, weights=values.astype(np.float64))
        self.by_unit(subject, benchmark, split, metric, unit_ids[rows], total, np.bincount(place).astype(np.float64))

    def by_unit(
        self,
        subject: str,
        benchmark: str,
        split: str,
        metric: str,
        unit_ids: pd.Index,
        total: np.ndarray,
        count: np.ndarray,
    ) -> None:
        """A decomposable metric Σ total / Σ count, a record for each unit whose count is positive."""
        key = f"{subject}/{benchmark}/{split}/{metric}"
        takes_part = count > 0
        if not takes_part.any():
            self.undefined.append(key)
            return
        total, count = total[takes_part], count[takes_part]
        self.values[key] = float(total.sum() / count.sum())
        units = unit_ids[takes_part].astype(str).tolist()
        self._append((subject, benchmark, split, metric), units, total, count, (None, None))

    def whole(
        self,
        subject: str,
        benchmark: str,
        split: str,
        metric: str,
        value: float,
        *,
        interval: tuple[float, float] | None = None,
    ) -> None:
        """A figure that does not divide by unit, with its interval if there is one."""
        key = f"{subject}/{benchmark}/{split}/{metric}"
        if not math.isfinite(value):
            self.undefined.append(key)
            return
        self.values[key] = value
        self._append(
            (subject, benchmark, split, metric), [None], np.array([value]), np.array([1.0]), interval or (None, None)
        )

    def table(self) -> pa.Table:
        """Everything collected."""
        return pa.concat_tables([SCHEMA.empty_table(), *self._tables])

    def write(self, path: Path, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Write everything collected as one table."""
        write_table(self.table(), path, metadata={"seed": self.seed, "fold": self.fold, **(metadata or {})})

    def _append(
        self,
        key: tuple[str, str, str, str],
        units: list[str] | list[None],
        total: np.ndarray,
        count: np.ndarray,
        bounds: tuple[float, float] | tuple[None, None],
    ) -> None:
        size = len(units)
        constant = [pa.repeat(pa.scalar(part), size) for part in (*key, self.seed, self.fold)]
        intervals = [pa.repeat(pa.scalar(bound, pa.float64()), size) for bound in bounds]
        columns = [*constant, pa.array(units, pa.string()), pa.array(total), pa.array(count), *intervals]
        self._tables.append(pa.Table.from_arrays(columns, schema=SCHEMA))
