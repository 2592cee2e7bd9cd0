"""What each objective gives over sequence-to-item alone, on the validation window: nothing of the test is read.

Purpose: which of the files beside this one (one change each) is worth its place among a recipe's trials. All are
trained on the same pairs and teachers, each up to the step that validates best by recall, and judged in that very
window, which therefore flatters them all alike; the base is sequence_to_item.yaml.
Command: python experiments/ablations/objectives.py RECIPE [key=value …] --out FOLDER [--data FOLDER]
         [--files relational.yaml,ranking.yaml] [--seeds 0,1,2] [--only print]
         FOLDER of --data holds a folder of the recipe's name, for a recipe that leaves data.root open. What is done is
         skipped when the command is given again; other files go on from there unless they bring teachers of their own.
Time: about half a minute a file, seed and fold on two idle cores, teachers and encoding apart. Memory: 3 GB.
Expected: a row a file: its figures in % (mean over seeds), and behind each the relative difference to the base in %,
its 95 % interval (paired, over users or items), and p after Holm over all rows and columns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from objectives_table import BASE, print_table
from objectives_window import Window
from worlds import rooted

from recdistill.config import Recipe, load_recipe
from recdistill.errors import UserError
from recdistill.exits import exit_codes
from recdistill.flow import run

HERE = Path(__file__).parent
MAY_CHANGE = {"teachers", "student", "distill"}


@exit_codes()
def main() -> None:
    """Run up to mining, train and judge what is not there yet, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--files", type=lambda text: text.split(","), default=[path.name for path in HERE.glob("*.yaml")]
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", choices=["print"])
    asked = parser.parse_args()
    base = HERE / f"{BASE}.yaml"
    files = [base, *sorted({HERE / name for name in asked.files} - {base})]
    if missing := [str(file) for file in files if not file.is_file()]:
        parser.error(f"--files: no such file: {', '.join(missing)}")
    recipes = recipes_of(asked.recipe, files, [*asked.overrides, f"seeds=[{asked.seeds}]"], data=asked.data)
    if asked.only is None:
        run(recipes[BASE], out=asked.out, until="mine", say=print)
    windows = [Window(recipes[BASE], out=asked.out, seed=seed, fold=fold) for seed, fold in recipes[BASE].runs()]
    if asked.only is None:
        for window in windows:
            window.measure(recipes)
    there = {name: [window for window in windows if window.path(name).exists()] for name in recipes}
    print_table(
        recipes[BASE],
        {name: [window.path(name) for window in of] for name, of in there.items()},
        stale={name for name, of in there.items() if not all(window.is_done(name, recipes[name]) for window in of)},
    )


def recipes_of(
    path: Path, files: Sequence[Path], overrides: Sequence[str], *, data: Path | None = None
) -> dict[str, Recipe]:
    """File's stem → the recipe with that file's change, and the teachers of all files.

    Raises:
        UserError: a file changes what all share, has not one trial, or makes a teacher otherwise than another does; or
            the student is not to start from drawn weights.
    """
    teachers: dict[str, Any] = {}
    for file in files:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        if further := sorted(set(raw) - MAY_CHANGE):
            raise UserError(
                f"{file}: changes {', '.join(further)}", remedy=f"change {', '.join(sorted(MAY_CHANGE))} alone"
            )
        for kind, of in (raw.get("teachers") or {}).items():
            if teachers.setdefault(kind, of) != of:
                raise UserError(f"{file}: not the teachers.{kind} of a file before it", remedy="name one of the two")
    shared = [f"teachers={json.dumps(teachers)}", *rooted(yaml.safe_load(path.read_text(encoding="utf-8")), data)]
    found = {}
    for file in files:
        recipe = load_recipe(path, [*shared, *overrides], changes=[file])
        if len(recipe.distill.trials) != 1:
            raise UserError(f"{file}: {len(recipe.distill.trials)} trials", remedy="one change, one trial")
        if recipe.distill.start != "fresh":
            raise UserError(f"{file}: starts from a pretrained student", remedy="add distill.start=fresh")
        found[file.stem] = recipe
    return found


if __name__ == "__main__":
    main()
