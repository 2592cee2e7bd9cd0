"""Reading a run folder: every file may be absent, and then is None or empty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import UserError
from recdistill.report.journal import Run, read_journal

_RECORDS = "metric_records.parquet"


@dataclass(frozen=True)
class RunFolder:
    """DIR of a run, as ``flow.py`` lays it out."""

    root: Path

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``metrics.json``: ``subject/benchmark/split/metric`` → value, sd, n, low, high, units."""
        return self.json("metrics.json") or {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """``metrics.json`` as a table: subject, benchmark, split, metric, value, sd, n, low, high, units."""
        rows = []
        for key, figure in self.metrics.items():
            parts = key.split("/")
            if len(parts) == 4:
                rows.append(
                    dict(zip((names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC), parts, strict=True)) | figure
                )
        columns = [
            names.SUBJECT,
            names.BENCHMARK,
            names.SPLIT,
            names.METRIC,
            "value",
            "sd",
            "n",
            "low",
            "high",
            "units",
        ]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def parts(self) -> list[Path]:
        """The folders ``seed-<s>/<fold>``, seeds and folds in order."""
        found = [path for path in self.root.glob("seed-*/*") if path.is_dir()]
        return sorted(found, key=lambda path: (_number(path.parent.name), path.name))

    @property
    def first(self) -> Path | None:
        """The first seed's first fold, from which examples are shown."""
        return self.parts[0] if self.parts else None

    def records(self, stage: str, *subjects: str) -> pd.DataFrame:
        """Metric records of some subjects, of all seeds and folds, as ``evaluate`` or ``rank`` wrote them."""
        frames = []
        for path in self.parts:
            if (path / stage / _RECORDS).exists():
                table = read_table(path / stage / _RECORDS)
                frames.append(table.filter(pc.is_in(table[names.SUBJECT], pa.array(subjects))).to_pandas())
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def json(self, *place: str | Path) -> Any:
        """A JSON file below DIR, None if it is absent.

        Raises:
            UserError: it is there and is not JSON.
        """
        path = self.root.joinpath(*place)
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(
                f"{path}: not readable JSON ({error})", remedy="run the stage that writes it again"
            ) from error

    def embeddings(self, *place: str | Path) -> EmbeddingTable | None:
        """An embedding table below DIR, None if it is absent."""
        path = self.root.joinpath(*place)
        return EmbeddingTable.read(path) if path.exists() else None

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The tracking journal's current runs, by name."""
        return read_journal(self.root / "tracking")


def _number(name: str) -> tuple[int, str]:
    digits = name.rsplit("-", 1)[-1]
    return (int(digits), name) if digits.isdigit() else (1 << 30, name)
