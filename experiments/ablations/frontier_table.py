"""The table of ``worlds.py`` on new items: the student's frontier against every other's, each at levels of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from claims import OUTSIDE, best_of
from frontiers import AREA, BENCHMARK, STUDENT, VALIDATION
from rich.table import Table
from world_records import World

from recdistill.evaluation import compare

NOTE = (
    "* largest area on the validation window among baselines and rivals. student there: at the level at which it has, "
    "on validation, the new recall of the other's own best of all items."
)


def frontier_rows(world: World) -> Iterator[dict[str, Any]]:
    """A row for every subject with a frontier, the student apart; none where the student has no frontier.

    ``difference`` is of the areas, student − other, paired over users, with its 95 % interval; ``ratio`` and
    ``gives_up`` say what the student has of all items there: of the other's, and less than of its own best.
    """
    everyone, cold = f"recall_at_{world.levels.all_at}", f"recall_at_{world.levels.cold_at}"

    def value(subject: str, split: str, metric: str) -> float:
        row = world.figures.get((subject, BENCHMARK, split, metric))
        return math.nan if row is None else float(row["value"])

    validated = {name: world.figures.get((name, BENCHMARK, VALIDATION, AREA)) for name in OUTSIDE}
    marked = best_of(OUTSIDE, {name: None if row is None else row["value"] for name, row in validated.items()})
    areas = world.records[(world.records["benchmark"] == BENCHMARK) & (world.records["metric"] == AREA)]
    for name in world.subjects():
        gains = [] if name == STUDENT else compare(areas, STUDENT, name).to_dict("records")
        for gain in gains:  # the one of the areas
            there, own = f"{STUDENT}@{name}", value(name, "all", everyone)
            all_there = value(there, "all", everyone)
            yield {
                "world": world.name,
                "protocol": world.protocol,
                "other": name,
                "best_on_validation": name == marked,
                "area": gain["b"],
                **{key: gain[key] for key in ("difference", "low", "high")},
                "all": own,
                "new": value(name, "cold", cold),
                "student_all": all_there,
                "student_new": value(there, "cold", cold),
                "ratio": all_there / own if own else math.nan,
                "gives_up": 1 - all_there / best if (best := value(STUDENT, "all", everyone)) else math.nan,
            }


def frontier_table(rows: list[dict[str, Any]], *, all_at: int, cold_at: int) -> Table:
    """All worlds' rows; areas in % of %, recalls in %."""
    table = Table()
    for heading in (
        "world", "other", "area %²", "student − it", f"all R@{all_at}, own best", f"new R@{cold_at}",
        "student there: all", "new", "ratio", "gives up",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("world", "other") else "right")
    for row in rows:
        apart = (_number(row[key], 1e4) for key in ("difference", "low", "high"))
        table.add_row(
            f"{row['world']} {row['protocol']}",
            f"{row['other']}{' *' if row['best_on_validation'] else ''}",
            _number(row["area"], 1e4),
            "{} [{}, {}]".format(*apart),
            *(_number(row[key], 1e2) for key in ("all", "new", "student_all", "student_new")),
            _number(row["ratio"], 1),
            _number(row["gives_up"], 1e2) + " %",
        )
    return table


def _number(value: float, scale: float) -> str:
    return f"{scale * value:.2f}" if math.isfinite(value) else "–"
