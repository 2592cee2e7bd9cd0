"""The tables of ``worlds.py``, from the run folders that it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from claims import Claim, claims
from frontier_table import NOTE, frontier_rows, frontier_table
from rich.console import Console
from rich.table import Table
from world_records import World

from recdistill.contracts.tables import write_json
from recdistill.evaluation.significance import Contrast, holm


def show(out: Path) -> None:
    """Print the tables of the finished worlds in ``out``, and write ``worlds.json``."""
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
    for row, adjusted in zip(rows, holm([1.0 if row["p"] is None else row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    frontiers = [row for world in worlds for row in frontier_rows(world)]
    levels = worlds[0].levels
    for title, table in (
        ("Subjects", _subjects_table(worlds)),
        ("Frontiers", frontier_table(frontiers, all_at=levels.all_at, cold_at=levels.cold_at)),
        ("Claims", _claims_table(rows)),
    ):
        console.print(f"\n{title}")
        console.print(table)
    console.print(NOTE)
    console.print(
        "ratio: student / other, 95 % interval over units. p: of no difference, or of a loss as large as the bar "
        f"allows, where that is below 1; Holm over all {len(rows)} rows, a p of 1 where nothing was asked.\n"
        "certain: the interval lies on one side of the bar. seen, one seed: smallest difference that shows at 80 % "
        "power with all seeds and with one of them.\nby: what it takes to see the difference that the bar asks for "
        "(the loss it allows; at a bar of 1 the difference found)."
    )
    write_json(
        {
            "subjects": list(_subject_rows(worlds)),
            "frontiers": [_jsonable(row) for row in frontiers],
            "claims": [_jsonable(row) for row in rows],
        },
        out / "worlds.json",
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
    """A row for every claim; one that the records cannot answer says why, and has no figures."""
    at = world.levels
    for claim in claims(world.records, protocol=world.protocol, all_at=at.all_at, cold_at=at.cold_at):
        found = claim.contrast(world.records)
        row = {
            "world": world.name, "protocol": world.protocol, "claim": claim.name, "student": claim.ours,
            "other": claim.other, "without": _lacking(world, claim, claim.among), "bar": claim.bar,
        }  # fmt: skip
        if found is None:
            nothing = dict.fromkeys(field.name for field in fields(Contrast))
            yield {**row, **nothing, "met": None, "certain": None, "needs": None, "not_asked": _why(world, claim)}
        else:
            met, certain = found.ratio >= claim.bar, found.low >= claim.bar or found.high < claim.bar
            needs = _needs(claim, found)
            yield {**row, **asdict(found), "met": met, "certain": certain, "needs": needs, "not_asked": None}


def _lacking(world: World, claim: Claim, names: tuple[str, ...]) -> list[str]:
    """Those who do not have the claim's figure."""
    return [name for name in names if (name, claim.benchmark, claim.split, claim.metric) not in world.figures]


def _why(world: World, claim: Claim) -> str:
    """Why the records do not answer a claim."""
    if claim.other is None:
        return f"none of {', '.join(claim.among)} is known" if claim.among else "nobody to compare with at a new recall"
    for name in (claim.benchmark, claim.ours, claim.other):
        if name in world.reasons:
            return f"{name}: {world.reasons[name]}"
    lacking = _lacking(world, claim, (claim.ours, claim.other))
    return f"no such figure of {' and '.join(lacking)}" if lacking else "no unit is judged by both"


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
        if row["not_asked"]:
            blank = ["–"] * 3
            told = [f"{row['bar']:.3f}", "not asked", "–", f"{row['p_holm']:.4f}", *blank, row["not_asked"]]
            table.add_row(here, row["claim"], row["other"] or "–", *blank, *told, style="dim")
            continue
        scale = 1e4 if "area" in row["claim"] else 1e2
        table.add_row(
            here,
            row["claim"],
            row["other"] + (f", without {', '.join(row['without'])}" if row["without"] else ""),
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
