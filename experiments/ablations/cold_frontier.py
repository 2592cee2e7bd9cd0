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
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.records import Records
from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation import compare, summarise
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.baselines.tuned import make_baseline
from recdistill.evaluation.benchmarks.new_items import NewItems
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.subjects import Subject, VectorSubject
from recdistill.flow import run
from recdistill.retrieval.frontier import Frontier
from recdistill.retrieval.levels import Crossings

STUDENT, CONTENT = "student", "content_student"
BENCHMARK, AREA = "cold_frontier", "frontier_area"
PLACES_NEW_ITEMS = ("raw_content", "ridge", "kernel_ridge", "ease_content")


class Judged:
    """One seed and fold: the subjects of both fits, and both windows' questions."""

    def __init__(self, recipe: Recipe, *, out: Path, seed: int, fold: Fold, baselines: list[str]) -> None:
        self.config = recipe.evaluate.new_items
        place = out / f"seed-{seed}" / fold.name
        material = Material.of_fits(
            fold,
            content=out / "content",
            teach=place / "teach",
            teacher=recipe.evaluate.baselines.teacher,
            min_positive=recipe.evaluate.seq2item.min_positive,
        )
        self.asked: dict[Fit, NewItems] = {}
        for fit in FITS:
            cold = ~material[fit].known
            questions = seq2item(recipe.evaluate.seq2item, fold, fit, seed=seed, cold=cold)
            self.asked[fit] = NewItems(self.config, questions, cold)
        self.subjects: dict[str, dict[Fit, Subject]] = {}
        for name in (STUDENT, CONTENT, *recipe.distill.rivals):
            tables = {fit: EmbeddingTable.read(place / "distill" / fit / f"{name}.parquet") for fit in FITS}
            self.subjects[name] = {
                fit: VectorSubject.of(name, table, material[fit].item_ids) for fit, table in tables.items()
            }
        for name in baselines:
            made = make_baseline(
                name,  # type: ignore[arg-type]  # one of PLACES_NEW_ITEMS
                recipe.evaluate.baselines,
                selection=material["selection"],
                final=material["final"],
                questions=self.asked["selection"].questions,
            )
            assert made.selection is not None
            self.subjects[name] = {"selection": made.selection, "final": made.final}

    def record(self, records: Records, areas: dict[str, list[float]]) -> None:
        """Recalls at the levels that validation chooses, and areas; ``areas`` gets those of validation."""
        config = self.config
        found: dict[str, dict[Fit, tuple[Crossings, Frontier]]] = {}
        for name, by_fit in self.subjects.items():
            found[name] = {}
            for fit, subject in by_fit.items():
                crossings = self.asked[fit].crossings(subject)
                unit = self.asked[fit].questions.unit
                frontier = Frontier.trace(crossings, unit, all_at=config.all_at, cold_at=config.cold_at)
                found[name][fit] = crossings, frontier
            areas[name].append(float(found[name]["selection"][1].area()))
        ids = self.asked["final"].questions.unit_ids
        student = found[STUDENT]
        for name, of in found.items():
            before, test = of["selection"][1], of["final"][1]
            everyone, cold = before.curve()
            best = int(np.flatnonzero(everyone == everyone.max())[-1])
            self._recalls(records, name, of["final"][0], float(before.levels[best]))
            same = student["selection"][1]
            level = float(same.levels[same.best_all(cold=float(cold[best]))])
            self._recalls(records, f"{STUDENT}@{name}", student["final"][0], level)
            records.add(name, BENCHMARK, "all", AREA, test.units, ids, test.influences())

    def _recalls(self, records: Records, name: str, crossings: Crossings, level: float) -> None:
        asked = self.asked["final"].questions
        for split, rows, k in (
            ("all", np.ones(len(asked), dtype=bool), self.config.all_at),
            ("cold", ~asked.known, self.config.cold_at),
        ):
            hits = crossings.hits(level, k)[rows]
            records.add(name, BENCHMARK, split, f"recall_at_{k}", asked.unit[rows], asked.unit_ids, hits)


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
    parts, areas = [], defaultdict[str, list[float]](list)
    for seed in recipe.seeds:
        for name in recipe.split.fold_names():
            fold = Fold(asked.out / "split" / name)
            records = Records(seed, name)
            judged = Judged(recipe, out=asked.out, seed=seed, fold=fold, baselines=baselines)
            judged.record(records, areas)
            parts.append(records.table())
    _print(pa.concat_tables(parts).to_pandas(), {name: float(np.mean(found)) for name, found in areas.items()}, recipe)


def _print(records: pd.DataFrame, areas: dict[str, float], recipe: Recipe) -> None:
    config = recipe.evaluate.new_items
    everyone, cold = f"recall_at_{config.all_at}", f"recall_at_{config.cold_at}"
    found = {(row["subject"], row["metric"]): row for row in summarise(records).to_dict("records")}
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
