"""Metric records as the ``metric_records`` contract wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import write_table
from recdistill.rankers.metrics import Decomposable

_SCHEMA = pa.schema([
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
    """Collects records of one seed and fold; figures that are not defined are remembered instead of written."""

    seed: int
    fold: str
    user_ids: pd.Index
    undefined: list[str] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    _tables: list[pa.Table] = field(default_factory=list)

    def whole(
        self, subject: str, benchmark: str, split: str, metric: str, value: float,
        *, interval: tuple[float, float] | None = None,
    ) -> None:
        """A figure of the whole, with its interval if there is one."""
        key = f"{subject}/{benchmark}/{split}/{metric}"
        if not math.isfinite(value):
            self.undefined.append(key)
            return
        self.values[key] = value
        low, high = interval if interval is not None else (None, None)
        self._add((subject, benchmark, split, metric), [None], [value], [1.0], [low], [high])

    def by_user(self, subject: str, benchmark: str, split: str, metric: str, parts: Decomposable) -> None:
        """A row for each user that takes part."""
        key = f"{subject}/{benchmark}/{split}/{metric}"
        users = np.flatnonzero(parts.count > 0)
        if not len(users):
            self.undefined.append(key)
            return
        self.values[key] = parts.value()
        none = [None] * len(users)
        units = self.user_ids[users].astype(str).tolist()
        self._add((subject, benchmark, split, metric), units, parts.total[users], parts.count[users], none, none)

    def write(self, path: Path, *, metadata: dict[str, Any]) -> None:
        """Write everything collected as one table."""
        write_table(pa.concat_tables(self._tables) if self._tables else _SCHEMA.empty_table(), path, metadata=metadata)

    def _add(
        self, key: Sequence[str], units: Sequence[str | None], total: Any, count: Any,
        low: Sequence[float | None], high: Sequence[float | None],
    ) -> None:
        n = len(units)
        columns = [[part] * n for part in key] + [[self.seed] * n, [self.fold] * n, units, total, count, low, high]
        self._tables.append(pa.table(
            [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
        ))
