"""Who serves new items and all items at once: student, baselines and published cold-start methods by their frontiers.

Purpose: every subject gets a level of its own for new items; none is judged at another's. All levels, settings and
training lengths are chosen on the validation window; the figures are of the test window.
Command: python experiments/ablations/cold_frontier.py RECIPE [data.root=FOLDER] [split.protocol=folds] --out FOLDER
         [--seeds 0,1,2] [--rivals dropoutnet,clcrec,aldi] [--baselines raw_content,kernel_ridge,ease_content]
Time: about six minutes a seed and fold on two idle cores, encoding apart. Memory: 3.5 GB.
Expected: per subject its area under the frontier (per cent of per cent, with a 95 % interval over users) and the paired
difference to the student's; recall at 10 of all and at 25 of new items, in %, at its own best of all items; what the
student gets of all items at the same recall of new ones, as a ratio, and how much of its own best that costs it. The
baseline to compare with is the one whose area is largest on validation; it is marked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from frontiers import AREA, CONTENT, PLACES_NEW_ITEMS, STUDENT, VALIDATION, Frontiers
from rich.console import Console
from rich.table import Table

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import Fit
from recdistill.contracts.records import Records
from recdistill.evaluation import compare, summarise
from recdistill.evaluation.baselines.tuned import make_baseline
from recdistill.evaluation.subjects import Subject
from recdistill.flow import run


def subjects_of(recipe: Recipe, asked: Frontiers, baselines: list[str]) -> dict[str, dict[Fit, Subject]]:
    """The students and rivals as trained, and the baselines, made here."""
    subjects = asked.tables("distill", (STUDENT, CONTENT, *recipe.distill.rivals))
    for name in baselines:
        made = make_baseline(
            name,  # type: ignore[arg-type]  # one of PLACES_NEW_ITEMS
            recipe.evaluate.baselines,
            selection=asked.material["selection"],
            final=asked.material["final"],
            questions=asked.asked["selection"].questions,
        )
        assert made.selection is not None
        subjects[name] = {"selection": made.selection, "final": made.final}
    return subjects


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rivals", default="dropoutnet,clcrec,aldi")
    parser.add_argument("--baselines", default="raw_content,kernel_ridge,ease_content")
    asked = parser.parse_args()
    baselines = [name for name in asked.baselines.split(",") if name]
    if unknown := sorted(set(baselines) - set(PLACES_NEW_ITEMS)):
        parser.error(f"--baselines: {', '.join(unknown)}; there are {', '.join(PLACES_NEW_ITEMS)}")
    if not baselines and not asked.rivals:
        parser.error("neither rivals nor baselines: nothing to compare with")
    told = [f"seeds=[{asked.seeds}]", f"distill.rivals=[{asked.rivals}]"]
    recipe = load_recipe(asked.recipe, [*asked.overrides, *told])
    run(recipe, out=asked.out, until="distill", say=print)
    parts = []
    for seed, fold in recipe.runs():
        records = Records(seed, fold)
        questions = Frontiers(recipe, out=asked.out, seed=seed, fold=fold)
        questions.record(records, subjects_of(recipe, questions, baselines))
        parts.append(records.table())
    _print(pa.concat_tables(parts).to_pandas(), recipe)


def _print(records: pd.DataFrame, recipe: Recipe) -> None:
    config = recipe.evaluate.new_items
    everyone, cold = f"recall_at_{config.all_at}", f"recall_at_{config.cold_at}"
    figures = summarise(records).to_dict("records")
    areas = {row["subject"]: row["value"] for row in figures if row["split"] == VALIDATION}
    found = {(row["subject"], row["metric"]): row for row in figures if row["split"] != VALIDATION}
    best = max((name for name in areas if name not in (STUDENT, CONTENT)), key=areas.__getitem__)
    table = Table(title=f"{recipe.name}, seeds {list(recipe.seeds)}, folds {list(recipe.split.fold_names())}")
    for column in (
        "subject", "area %²", "student − it", f"all R@{config.all_at}", f"new R@{config.cold_at}",
        "student there: all", "new", "ratio", "gives up",
    ):  # fmt: skip
        table.add_column(column)
    own_best = found[STUDENT, everyone]["value"]
    for name in areas:
        own, there = found[name, everyone], found[f"{STUDENT}@{name}", everyone]["value"]
        cells = [f"{name}{' *' if name == best else ''}", _interval(found[name, AREA], "value", 1e4)]
        figures = [_interval(own, "value", 100), _interval(found[name, cold], "value", 100)]
        if name == STUDENT:
            cells += ["", *figures]
        else:
            gain = next(row for row in compare(records, STUDENT, name).to_dict("records") if row["metric"] == AREA)
            cells += [_interval(gain, "difference", 1e4), *figures, f"{100 * there:.2f}"]
            cells += [f"{100 * found[f'{STUDENT}@{name}', cold]['value']:.2f}"]
            cells += [f"{there / own['value']:.2f}" if own["value"] else "–", f"{100 * (1 - there / own_best):.1f} %"]
        table.add_row(*cells)
    console = Console(width=180)
    console.print(table)
    console.print("* largest area on the validation window among baselines and rivals")


def _interval(row: dict[Any, Any], name: str, scale: float) -> str:
    return f"{scale * row[name]:.2f} [{scale * row['low']:.2f}, {scale * row['high']:.2f}]"


if __name__ == "__main__":
    main()
