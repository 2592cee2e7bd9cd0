"""Reading a run folder: every file may be absent, and then is None or empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from recdistill.contracts import names
from recdistill.contracts.journal import JournalledRun, read_runs
from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import UserError
from recdistill.settings import Settings
from recdistill.split import SplitConfig
from recdistill.students import EncodersConfig
from recdistill.students.config import ImageEncoderConfig
from recdistill.students.encoders.media import MediaLimits

Kind = TypeVar("Kind", bound=Settings)
_RECORDS = "metric_records.parquet"
_FIGURE = ("value", "sd", "n", "low", "high", "units")
_KEY = (names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC)


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The content of ``metrics.json`` as a table: subject, benchmark, split, metric, value, sd, n, low, high, units."""
    rows = [
        dict(zip(_KEY, parts, strict=True)) | dict(figure)
        for key, figure in metrics.items()
        if len(parts := key.split("/")) == len(_KEY)
    ]
    return pd.DataFrame(rows, columns=[*_KEY, *_FIGURE])


@dataclass(frozen=True)
class RunFolder:
    """DIR of a run, as ``stages.py`` lays it out."""

    root: Path

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``metrics.json``: ``subject/benchmark/split/metric`` → value, sd, n, low, high, units."""
        return self.json("metrics.json") or {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """``metrics.json`` as a table (:func:`metrics_table`)."""
        return metrics_table(self.metrics)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """``recipe.json``: the settings of the last run in this folder."""
        return self.json("recipe.json") or {}

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """Names of the recipe's seeds; folders of seeds that it no longer has do not count."""
        return tuple(f"seed-{seed}" for seed in self.recipe.get("seeds", ()))

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """Names of the recipe's folds."""
        return self._settings("split", SplitConfig).fold_names() if self.recipe else ()

    @cached_property
    def parts(self) -> list[Path]:
        """The folders ``seed-<s>/<fold>`` that there are of the recipe's seeds and folds, in its order."""
        found = (self.root / run for run in self._runs)
        return [path for path in found if path.is_dir()]

    @cached_property
    def _runs(self) -> tuple[str, ...]:
        """``seed-<s>/<fold>`` of the recipe's seeds and folds, in its order."""
        if not self.recipe:
            return ()
        runs = self._settings("split", SplitConfig).runs(self.recipe.get("seeds", ()))
        return tuple(f"seed-{seed}/{fold}" for seed, fold in runs)

    @cached_property
    def media_limits(self) -> MediaLimits:
        """What the encoders refuse, and the report therefore does not open either."""
        encoders = self._settings("encoders", EncodersConfig)
        image = encoders.image or ImageEncoderConfig()
        return MediaLimits(max_bytes=int(encoders.max_media_mb * 1e6), max_pixels=math.ceil(image.max_megapixels * 1e6))

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

    def _settings(self, section: str, kind: type[Kind]) -> Kind:
        try:
            return kind.model_validate(self.recipe.get(section, {}))
        except ValidationError as error:
            raise UserError(
                f"{self.root / 'recipe.json'}: '{section}' is not as this version of recdistill writes it",
                remedy="run the recipe again in that folder",
            ) from error

    @cached_property
    def runs(self) -> dict[str, JournalledRun]:
        """The tracking journal's current runs of the recipe's seeds and folds, by name."""
        return {
            name: run
            for name, run in read_runs(self.root).items()
            if name in self.seeds or name.rpartition("/")[0] in self._runs
        }
