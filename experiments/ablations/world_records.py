"""What ``worlds.py`` leaves of one recipe and protocol, as its tables read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from frontiers import AREA, BENCHMARK, made_of

from recdistill.contracts.tables import read_metadata, read_table
from recdistill.evaluation import summarise
from recdistill.evaluation.stage import SUMMARY
from recdistill.retrieval.config import LevelConfig
from recdistill.split import SplitConfig

FRONTIERS = "frontiers"
SUBJECTS = (
    "popularity", "raw_content", "ridge", "kernel_ridge", "ease", "ease_content", "ials", "ials_teacher",
    "id_teacher", "sequence_teacher", "content_student", "sequence_student", "student", "dropoutnet", "clcrec", "aldi",
)  # fmt: skip
# Heading → benchmark, split, metric and factor. R@10 to R@100 are recalls in %; the area is % of %.
_Column = tuple[str, str, str, float]
COLUMNS: dict[str, _Column] = {
    "vanilla R@10": ("seq2item_vanilla", "all", "recall_at_10", 1e2),
    "filtered R@10": ("seq2item_filtered", "all", "recall_at_10", 1e2),
    "gid R@50": ("gid_i2i", "all", "recall_at_50", 1e2),
    "gid R@100": ("gid_i2i", "all", "recall_at_100", 1e2),
    "gid others R@100": ("gid_others_i2i", "all", "recall_at_100", 1e2),
    "content R@50": ("content_i2i", "all", "recall_at_50", 1e2),
    "copair lift R@50": ("copair_i2i", "all", "recall_at_50", 1e2),
    "copair count R@50": ("copair_count_i2i", "all", "recall_at_50", 1e2),
    "bijective": ("bijective", "all", "bijective_accuracy", 1e2),
    "frontier area %²": (BENCHMARK, "all", AREA, 1e4),
}


@dataclass(frozen=True)
class World:
    """One run folder that is finished.

    Attributes:
        reasons: subject or benchmark → why the evaluation has none.
    """

    root: Path
    name: str
    protocol: str
    seeds: tuple[int, ...]
    levels: LevelConfig
    reasons: dict[str, str]
    records: pd.DataFrame

    @classmethod
    def read(cls, root: Path) -> World | None:
        """None while a seed or fold lacks its evaluation, or the frontiers of that very evaluation."""
        recipe = json.loads((root / "recipe.json").read_text(encoding="utf-8"))
        runs = SplitConfig.model_validate(recipe["split"]).runs(recipe["seeds"])
        places = [(root / f"seed-{seed}" / fold / "evaluate", f"seed-{seed}-{fold}.parquet") for seed, fold in runs]
        paths = [path for of, name in places for path in (of / "metric_records.parquet", root / FRONTIERS / name)]
        if not all(path.exists() for path in (*paths, *(of / "_stage.json" for of, _ in places))):
            return None
        if any(not read_metadata(root / FRONTIERS / name).items() >= made_of(of).items() for of, name in places):
            return None
        levels = LevelConfig.model_validate(recipe["evaluate"]["new_items"])
        records = pa.concat_tables([read_table(path) for path in paths], promote_options="permissive").to_pandas()
        asked = [column[:3] for column in _columns(levels).values()]
        benchmarks = {benchmark for benchmark, _, _ in asked}
        metrics = {metric for _, _, metric in asked} | {f"recall_at_{levels.all_at}"}
        records = records[records["benchmark"].isin(benchmarks) & records["metric"].isin(metrics)]
        reasons = dict[str, str]()
        for of, _ in places:
            told = json.loads((of / SUMMARY).read_text(encoding="utf-8"))
            reasons |= told["skipped"] | told["left_out"]
        return cls(
            root,
            recipe["name"],
            recipe["split"]["protocol"],
            tuple(recipe["seeds"]),
            levels,
            reasons,
            records.reset_index(drop=True),
        )

    @cached_property
    def columns(self) -> dict[str, _Column]:
        return _columns(self.levels)

    @cached_property
    def figures(self) -> dict[tuple[str, str, str, str], dict[str, Any]]:
        """(subject, benchmark, split, metric) → a row of the summary."""
        rows: list[dict[str, Any]] = summarise(self.records).to_dict("records")  # type: ignore[assignment]
        return {(row["subject"], row["benchmark"], row["split"], row["metric"]): row for row in rows}

    def subjects(self) -> Iterator[str]:
        found = {key[0] for key in self.figures}
        return (name for name in SUBJECTS if name in found)


def _columns(levels: LevelConfig) -> dict[str, _Column]:
    """New items' recall is that at the level which gives the subject its best of all items on validation."""
    cold = {f"new R@{levels.cold_at}, own best": (BENCHMARK, "cold", f"recall_at_{levels.cold_at}", 1e2)}
    return {**COLUMNS, **cold}
