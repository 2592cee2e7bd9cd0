"""The tables of ``worlds.py``, from the run folders that it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from claims import Claim, claims
from frontiers import AREA, BENCHMARK
from rich.console import Console
from rich.table import Table

from recdistill.contracts.tables import read_table, write_json
from recdistill.evaluation import summarise
from recdistill.evaluation.significance import Contrast, holm
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
    """One run folder that is finished."""

    root: Path
    name: str
    protocol: str
    seeds: tuple[int, ...]
    levels: LevelConfig
    records: pd.DataFrame

    @classmethod
    def read(cls, root: Path) -> World | None:
        """None while a seed or fold lacks its evaluation or its frontiers."""
        recipe = json.loads((root / "recipe.json").read_text(encoding="utf-8"))
        runs = SplitConfig.model_validate(recipe["split"]).runs(recipe["seeds"])
        places = [(root / f"seed-{seed}" / fold / "evaluate", f"seed-{seed}-{fold}.parquet") for seed, fold in runs]
        paths = [path for of, name in places for path in (of / "metric_records.parquet", root / FRONTIERS / name)]
        if not all(path.exists() for path in (*paths, *(of / "_stage.json" for of, _ in places))):
            return None
        levels = LevelConfig.model_validate(recipe["evaluate"]["new_items"])
        records = pa.concat_tables([read_table(path) for path in paths], promote_options="permissive").to_pandas()
        asked = [column[:3] for column in _columns(levels).values()]
        benchmarks = {benchmark for benchmark, _, _ in asked}
        metrics = {metric for _, _, metric in asked} | {f"recall_at_{levels.all_at}"}
        records = records[records["benchmark"].isin(benchmarks) & records["metric"].isin(metrics)]
        protocol = recipe["split"]["protocol"]
        return cls(root, recipe["name"], protocol, tuple(recipe["seeds"]), levels, records.reset_index(drop=True))

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


def show(out: Path) -> None:
    """Print both tables of the finished worlds in ``out``, and write ``worlds.json``."""
    console = Console(width=230)
    worlds = []
    for path in sorted(out.glob("*/recipe.json")):
        world = World.read(path.parent)
        if world is None:
            console.print(f"{path.parent.name}: not finished, left out")
        else:
            worlds.append(world)
    if not worlds:
        return
    rows = [row for world in worlds for row in _claim_rows(world)]
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    for title, table in (("Subjects", _subjects_table(worlds)), ("Claims", _claims_table(rows))):
        console.print(f"\n{title}")
        console.print(table)
    console.print(
        "ratio: student / other, 95 % interval over units. p: of no difference, or of a loss as large as the bar "
        f"allows, where that is below 1; Holm over all {len(rows)} rows.\n"
        "certain: the interval lies on one side of the bar. seen, one seed: smallest difference that shows at 80 % "
        "power with all seeds and with one of them.\nby: what it takes to see the difference that the bar asks for "
        "(the loss it allows; at a bar of 1 the difference found)."
    )
    write_json(
        {"subjects": list(_subject_rows(worlds)), "claims": [_jsonable(row) for row in rows]}, out / "worlds.json"
    )


def _subjects_table(worlds: list[World]) -> Table:
    table = Table()
    for heading in ("world", "subject", *worlds[0].columns):
        table.add_column(heading, justify="left" if heading in ("world", "subject") else "right")
    for world in worlds:
        name = f"{world.name} {world.protocol}"
        units = [
            max((row["units"] for key, row in world.figures.items() if key[1:] == column[:3]), default=0)
            for column in world.columns.values()
        ]
        table.add_row(name, f"judged, {len(world.seeds)} seeds", *(str(count or "–") for count in units), style="dim")
        for subject in world.subjects():
            cells = []
            for *key, scale in world.columns.values():
                row = world.figures.get((subject, *key))
                cells.append("–" if row is None else f"{scale * row['value']:.2f} {_half(row, scale)}")
            table.add_row(name, subject, *cells, style="bold" if subject == "student" else None)
        table.add_section()
    return table


def _half(row: dict[str, Any], scale: float) -> str:
    half = scale * (row["high"] - row["low"]) / 2
    return f"±{half:.2f}" if math.isfinite(half) else "±?"


def _subject_rows(worlds: list[World]) -> Iterator[dict[str, Any]]:
    for world in worlds:
        for subject in world.subjects():
            for heading, (*key, _) in world.columns.items():
                if row := world.figures.get((subject, *key)):
                    numbers = {name: row[name] for name in ("value", "low", "high", "sd", "n", "units")}
                    yield _jsonable(
                        {
                            "world": world.name,
                            "protocol": world.protocol,
                            "subject": subject,
                            "figure": heading,
                            **numbers,
                        }
                    )


def _claim_rows(world: World) -> Iterator[dict[str, Any]]:
    at = world.levels
    for claim in claims(world.records, protocol=world.protocol, all_at=at.all_at, cold_at=at.cold_at):
        found = claim.contrast(world.records)
        if found is not None:
            yield {
                "world": world.name, "protocol": world.protocol, "claim": claim.name, "student": claim.ours,
                "other": claim.other, "bar": claim.bar, **asdict(found), "met": found.ratio >= claim.bar,
                "certain": found.low >= claim.bar or found.high < claim.bar, "needs": _needs(claim, found),
            }  # fmt: skip


def _needs(claim: Claim, found: Contrast) -> str:
    margin = abs((claim.bar if claim.bar != claim.null else found.ratio if claim.bar == 1 else 1.0) - claim.null)
    if margin >= found.detectable_alone:
        return "one seed"
    return "all seeds" if margin >= found.detectable else "more units"


def _claims_table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading in (
        "world", "claim", "against", "student", "other", "ratio", "bar", "met", "p", "Holm", "units",
        "seen", "one seed", "by",
    ):  # fmt: skip
        table.add_column(heading)
    place = ""
    for row in rows:
        here = f"{row['world']} {row['protocol']}"
        if place and here != place:
            table.add_section()
        place = here
        scale = 1e4 if "area" in row["claim"] else 1e2
        table.add_row(
            here,
            row["claim"],
            row["other"],
            f"{scale * row['a']:.2f}",
            f"{scale * row['b']:.2f}",
            f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            f"{row['bar']:.3f}",
            ("met" if row["met"] else "not met") + (", certain" if row["certain"] else ""),
            f"{row['p']:.4f}",
            f"{row['p_holm']:.4f}",
            str(row["units"]),
            f"{100 * row['detectable']:.1f} %",
            f"{100 * row['detectable_alone']:.1f} %",
            row["needs"],
            style=None if row["met"] else "red",
        )
    return table


def _jsonable(row: dict[str, Any]) -> dict[str, Any]:
    """NaN as None, tuples as lists of such."""
    return {
        key: [_known(part) for part in value] if isinstance(value, tuple) else _known(value)
        for key, value in row.items()
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
