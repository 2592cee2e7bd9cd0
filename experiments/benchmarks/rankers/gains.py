"""What a ranker gains by each feature group, and whether the bars are met.

Purpose: teams judge features by what their ranker gains. Embeddings are made from the first 60 % of the log, rankers
train on the next 20 % and are tested on the last 20 % (the recipe's own time split; split.validation and split.test
move the cuts). Groups: none, random control, centred content, kernel ridge, ID teacher, student, content + student, and
the student whitened, with popularity taken out, and with content taken out. Which of the student's variants to export
is chosen by log loss on the newest of the rankers' own training rows, never by the test.
Command: python experiments/benchmarks/rankers/gains.py RECIPE [key=value …] --out FOLDER [--data FOLDER]
         [--seeds 0,1,2] [--models dlrm,trees] [--only print]
         FOLDER of --data is where a recipe's data lie that leaves data.root open. What is done is skipped when the
         command is given again. The planted world at scale:
         … experiments/recipes/demo.yaml data.world.users=20000 evaluate.benchmarks=[seq2item_vanilla] --out FOLDER
Time: the recipe's up to the evaluation and, per seed, a minute of ranking on one core for 20,000 rows in each window,
fifteen for 300,000; printing of the latter four minutes with --draws 200. Memory: 4 GB.
Expected: for each model and for all and cold items a row a group: AUC and GAUC, their gains over none in points with
95 % intervals over users (rows of all seeds go with their user), the standard deviation of the gain over seeds, p by
DeLong's test, by its form for rows of the same users and over users and trainings, each after Holm over the groups, and
the gain that so many users and seeds show at 80 % power. The first two p take the trained rankers as given: they "see"
the random control, too, whose ranker is another training. Then what was chosen on validation, and the bars: met or not,
by which figures; "off zero" means both by the interval over users and by that over users and trainings.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recdistill.config import Recipe, load_recipe
from recdistill.evaluation.significance import holm
from recdistill.exits import exit_codes
from recdistill.flow import run
from recdistill.rankers.contrast import Gain, Panel
from recdistill.rankers.names import NONE, benchmark_of
from recdistill.rankers.predictions import Predictions

CONTENT, STUDENT = "raw_content", "student"
VARIANTS = ("student", "student_white", "student_free", "student_residual")
GROUPS = (
    NONE, "random", CONTENT, "raw_content_white", "kernel_ridge", "id_teacher", *VARIANTS,
    *(f"{CONTENT}+{variant}" for variant in VARIANTS),
)  # fmt: skip


@exit_codes()
def main() -> None:
    """Run, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--models", default="dlrm,trees")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=["print"])
    asked = parser.parse_args()
    recipe = recipe_of(asked.recipe, asked.overrides, data=asked.data, seeds=asked.seeds, models=asked.models)
    if asked.only is None:
        run(recipe, out=asked.out, until="rank", say=print)
    for line in tables(recipe, out=asked.out, draws=asked.draws):
        print(line)


def recipe_of(path: Path, overrides: Sequence[str], *, data: Path | None, seeds: str, models: str) -> Recipe:
    """The recipe with these rankers and groups; what the command line says last holds."""
    told = [f"seeds=[{seeds}]", f"rank.models=[{models}]", f"rank.groups=[{','.join(GROUPS)}]"]
    if data is not None and yaml.safe_load(path.read_text(encoding="utf-8"))["data"].get("root") == "???":
        told.append(f"data.root={data}")
    return load_recipe(path, [*told, *overrides])


def tables(recipe: Recipe, *, out: Path, draws: int) -> list[str]:
    """Every line that is printed, of the ranking that is in the folder."""
    folders = [out / f"seed-{seed}" / fold / "rank" for seed, fold in recipe.runs()]
    predictions = [Predictions.read(folder / "predictions.parquet") for folder in folders]
    told = [json.loads((folder / "rank.json").read_text(encoding="utf-8")) for folder in folders]
    rows = told[0]["rows"]
    lines = [
        f"{recipe.name}: {len(folders)} seeds; trained on {rows['train']['rows']:,} rows of {rows['train']['users']:,} "
        f"users, tested on {rows['test']['rows']:,} of {rows['test']['users']:,}, "
        f"{100 * rows['test']['cold_share']:.1f} % of them on cold items; points of per cent"
    ]
    for model in recipe.rank.models:
        groups = list(told[0]["groups"][benchmark_of(model)])
        names = [f"{model}/{group}" for group in groups]
        panels = {
            split: Panel.of(predictions, names, split=split, draws=draws)
            for split in ("all", "cold")
            if predictions[0].splits[split].any()
        }
        for split, panel in panels.items():
            lines += ["", f"{model}, {split} items", *_table(panel, model, groups)]
        chosen, reached = choose(told, benchmark_of(model))
        lines += ["", f"{model}: log loss on the newest training rows, which chooses the student's variant", reached]
        lines += ["", f"{model}: bars", *(bar.line() for bar in bars(panels, model, chosen=chosen))]
    return lines


def _table(panel: Panel, model: str, groups: Sequence[str]) -> list[str]:
    head = (
        f"{'':<30}{'AUC':>7}{'Δ AUC':>24}{'sd':>6}{'GAUC':>7}{'Δ GAUC':>24}{'p':>9}{'p by user':>10}{'p trained':>10}"
        f"{'seen from':>10}"
    )
    others = [group for group in groups if group != NONE]
    gains = {
        metric: {group: panel.gain(f"{model}/{group}", f"{model}/{NONE}", metric=metric) for group in others}
        for metric in ("auc", "gauc")
    }
    adjusted = [
        dict(zip(others, holm([p(gains["auc"][group]) for group in others]), strict=True))
        for p in (lambda gain: gain.p, lambda gain: gain.p_by_user, lambda gain: gain.trained.p)
    ]
    lines = [head]
    for group in groups:
        auc, gauc = (100 * panel.value(f"{model}/{group}", metric) for metric in ("auc", "gauc"))
        if group == NONE:
            lines.append(f"{group:<30}{auc:>7.2f}{'':>30}{gauc:>7.2f}")
            continue
        gain = gains["auc"][group]
        spread = 100 * float(np.std(gain.by_seed, ddof=1)) if len(gain.by_seed) > 1 else math.nan
        lines.append(
            f"{group:<30}{auc:>7.2f}{_points(gain):>24}{spread:>6.2f}{gauc:>7.2f}{_points(gains['gauc'][group]):>24}"
            f"{adjusted[0][group]:>9.1g}{adjusted[1][group]:>10.1g}{adjusted[2][group]:>10.1g}"
            f"{100 * gain.trained.detectable:>10.2f}"
        )
    return lines


def _points(gain: Gain) -> str:
    return f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"


def choose(told: Sequence[Mapping[str, Any]], benchmark: str) -> tuple[str, str]:
    """The student's variant of lowest log loss on validation rows, mean over seeds, and a line of all variants."""
    reached = {
        variant: float(np.mean([of["groups"][benchmark][variant]["validation_logloss"] for of in told]))
        for variant in VARIANTS
        if variant in told[0]["groups"][benchmark]
    }
    best = min(reached, key=reached.__getitem__)
    return best, "; ".join(f"{name} {value:.4f}" for name, value in reached.items()) + f": {best}"


@dataclass(frozen=True)
class Bar:
    """What is asked of a gain: at least so many points, and perhaps an interval off zero.

    Off zero is over users, and over users and trainings.
    """

    what: str
    gain: Gain
    least: float
    off_zero: bool = False

    @property
    def met(self) -> bool:
        """Whether the mean over seeds reaches it."""
        surely = min(self.gain.low, self.gain.trained.interval[0])
        return 100 * self.gain.value >= self.least and (not self.off_zero or surely > 0)

    def line(self) -> str:
        """As it is printed."""
        asked = f"at least {self.least:+.1f}" + (", off zero" if self.off_zero else "")
        low, high = self.gain.trained.interval
        return (
            f"{'met' if self.met else 'not met':<8} {self.what:<62}{_points(self.gain):>24}   ({asked}; "
            f"over trainings too [{100 * low:+.2f}, {100 * high:+.2f}])"
        )


@dataclass(frozen=True)
class Control:
    """What is asked of vectors without meaning: that no gain is seen."""

    gain: Gain

    @property
    def met(self) -> bool:
        """Whether the interval over users and trainings does not lie above zero."""
        return self.gain.trained.interval[0] <= 0

    def line(self) -> str:
        """As it is printed."""
        low, high = self.gain.trained.interval
        return (
            f"{'met' if self.met else 'not met':<8} {'AUC, random over none':<62}{_points(self.gain):>24}   (no gain; "
            f"over trainings too [{100 * low:+.2f}, {100 * high:+.2f}])"
        )


def bars(panels: Mapping[str, Panel], model: str, *, chosen: str) -> list[Bar | Control]:
    """The bars, of the student as it is and, where validation chose another, of that variant of it; and the control.

    Those of cold items are left out where none was tested.
    """
    found: list[Bar | Control] = [
        Control(panels["all"].gain(f"{model}/random", f"{model}/{NONE}", metric="auc")),
    ]
    for student in dict.fromkeys((STUDENT, chosen)):
        both = f"{CONTENT}+{student}"

        def gain(name: str, base: str, metric: str = "auc", split: str = "all") -> Gain:
            return panels[split].gain(f"{model}/{name}", f"{model}/{base}", metric=metric)

        found += [
            Bar(f"AUC, {student} over {CONTENT}", gain(student, CONTENT), 0.0),
            Bar(f"AUC, {both} over {CONTENT}", gain(both, CONTENT), 0.3, off_zero=True),
        ]
        for name in (student, both):
            found += [
                Bar(f"AUC, {name} over none", gain(name, NONE), 1.0),
                Bar(f"GAUC, {name} over none", gain(name, NONE, "gauc"), 2.0),
            ]
            if "cold" in panels:
                found.append(Bar(f"AUC of cold items, {name} over none", gain(name, NONE, split="cold"), 1.5))
    return found


if __name__ == "__main__":
    main()
