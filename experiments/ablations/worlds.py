"""All worlds in one table: what student, teachers, baselines and rivals reach, and which claims hold.

Purpose: the figures that collaboration-aware training is judged by, of several recipes, under both protocols: a table
of subjects, one of the frontiers of all and new items, on which everyone gets a level for new items of its own, chosen
on validation, and one of claims with paired tests, corrected for their number, and what could be seen at all.
Under ``folds`` seed number i runs fold i mod K alone, so that five seeds ask every user and every held-out item once.
Command: python experiments/ablations/worlds.py RECIPE[,RECIPE…] [key=value …] --out FOLDER [--data FOLDER]
         [--protocols time,folds] [--seeds 0,1,2,3,4] [--rivals dropoutnet,clcrec,aldi] [--rivals-under time]
         [--only print]
         FOLDER of --data holds a folder of each recipe's name, for recipes that leave data.root open. What is done is
         skipped when the command is given again; two of them with other recipes may run side by side. The tables are
         of every world that is finished in the FOLDER of --out; worlds.json there has their figures.
         Rivals are trained under time alone unless told otherwise: they are of new items, which come there as in life.
Time: five to fifteen minutes a recipe, protocol and seed on one idle core, encoding apart. Memory: 4 GB.
Expected: a row a subject: mean over seeds and half of the 95 % interval over units, in %; a row for every other's
frontier: the student's area less its area, and what the student has where it gets as much of new items; a row a claim:
its ratio with interval, p after Holm over all rows, and the smallest difference that so many units show at 80 % power,
with all seeds and with one, or why nothing answers it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from frontiers import PLACES_NEW_ITEMS, Frontiers, made_of
from world_records import FRONTIERS
from world_tables import show

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import Fit
from recdistill.contracts.records import Records
from recdistill.contracts.tables import read_metadata
from recdistill.errors import UserError
from recdistill.evaluation.baselines.ease import Ease
from recdistill.evaluation.config import BaselinesConfig
from recdistill.evaluation.stage import SUMMARY
from recdistill.evaluation.subjects import Subject
from recdistill.exits import exit_codes
from recdistill.flow import run


@exit_codes()
def main() -> None:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=lambda text: [Path(name) for name in text.split(",")])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--protocols", type=lambda text: text.split(","), default=["time", "folds"])
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--rivals", default="dropoutnet,clcrec,aldi")
    parser.add_argument("--rivals-under", type=lambda text: text.split(","), default=["time"])
    parser.add_argument("--only", choices=["print"])
    asked = parser.parse_args()
    if asked.only is None:
        worlds = []  # all of them before the first is run: a mistake in the last would show hours later
        for protocol in asked.protocols:
            rivals = asked.rivals if protocol in asked.rivals_under else ""
            told = [*asked.overrides, f"seeds=[{asked.seeds}]", f"distill.rivals=[{rivals}]"]
            worlds += [(recipe_of(path, told, protocol=protocol, data=asked.data), protocol) for path in asked.recipes]
        for recipe, protocol in worlds:
            out = asked.out / f"{recipe.name}-{protocol}"
            run(recipe, out=out, until="evaluate", say=print)
            trace(recipe, out=out)
    show(asked.out)


def recipe_of(path: Path, overrides: list[str], *, protocol: str, data: Path | None) -> Recipe:
    """The recipe under a protocol, with iALS among its baselines, and its data in the folder of its name."""
    told = [f"split.protocol={protocol}", f"split.one_fold_a_seed={'true' if protocol == 'folds' else 'false'}"]
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    told += rooted(raw, data)
    included = ((raw.get("evaluate") or {}).get("baselines") or {}).get("include", BaselinesConfig().include)
    told.append(f"evaluate.baselines.include=[{','.join(dict.fromkeys((*included, 'ials')))}]")
    return load_recipe(path, [*told, *overrides])


def rooted(raw: Mapping[str, Any], data: Path | None) -> list[str]:
    """The override that puts a recipe's data in the folder of its name, where it leaves their place open.

    Raises:
        UserError: there is no such folder.
    """
    if data is None or raw["data"].get("root") != "???":
        return []
    if not (data / raw["name"]).is_dir():
        raise UserError(
            f"--data {data}: no folder '{raw['name']}' there, which the recipe of this name reads",
            remedy="name the folder that holds one of each recipe's name",
        )
    return [f"data.root={data / raw['name']}"]


def trace(recipe: Recipe, *, out: Path) -> None:
    """Write every seed's and fold's frontier records, unless they are of the evaluation that is there."""
    for seed, fold in recipe.runs():
        path = out / FRONTIERS / f"seed-{seed}-{fold}.parquet"
        of = made_of(out / f"seed-{seed}" / fold / "evaluate")
        if path.exists() and read_metadata(path).items() >= of.items():
            continue
        records = Records(seed, fold)
        asked = Frontiers(recipe, out=out, seed=seed, fold=fold)
        asked.record(records, subjects_of(asked))
        records.write(path, metadata=of)
        print(f"{path.relative_to(out)}: done")


def subjects_of(asked: Frontiers) -> dict[str, dict[Fit, Subject]]:
    """Every subject of the evaluate stage with both fits: vectors as they are, EASE with content fitted again."""
    trained = sorted(path.stem for path in (asked.place / "distill" / "final").glob("*.parquet"))
    subjects = asked.tables("distill", trained) | asked.tables("evaluate", PLACES_NEW_ITEMS)
    summary = json.loads((asked.place / "evaluate" / SUMMARY).read_text(encoding="utf-8"))
    if chosen := summary["baselines"].get("ease_content"):
        width = asked.baselines.ease.content_width
        subjects["ease_content"] = {
            fit: Ease(material, content_width=width).fit(**chosen["settings"])
            for fit, material in asked.material.items()
        }
    return subjects


if __name__ == "__main__":
    main()
