"""Runs a recipe in a run folder: its stages one behind the other, without those that are unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recdistill.config import Recipe
from recdistill.contracts.tables import write_json
from recdistill.crew import Crew
from recdistill.errors import UserError
from recdistill.ingest import input_fingerprint
from recdistill.inputs import input_places, refuse_missing, roots, sections
from recdistill.remarks import remarks
from recdistill.runs import Runner, Stage, locked
from recdistill.stages import seed_runs, stages
from recdistill.tracking import Tracker, provenance_tags

# Stages that a recipe may leave out, with the section whose absence does it.
_SECTION_OF = {"pair": "pairs", "pretrain": "pretrain"}
_RECIPE = "recipe.json"
_HEADLINE = ("metrics.json", "report.html")


def run(
    recipe: Recipe, *, out: Path, until: str = "report", say: Callable[[str], None], crew: Crew | None = None
) -> dict[str, Any]:
    """Run a recipe's stage ``until`` and what it needs in the run folder ``out``, skipping what is unchanged.

    Args:
        crew: the processes that train together, of which this one is the leader; None: this one alone.

    Returns:
        the content of ``metrics.json``, {} when the report was not reached.

    Raises:
        UserError: the input, the recipe or the environment is at fault; or ``out`` is in use, or holds other things; or
            the recipe leaves the stage out.
    """
    _refuse_left_out(recipe, until)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{out}: a file, where the run folder should be", remedy="give another --out") from None
    with locked(out):
        _refuse_foreign(out)
        runner = Runner(out, say)
        with Tracker(out, experiment=recipe.name) as tracker:
            inputs = input_fingerprint(recipe.data)
            flow = stages(recipe, inputs=inputs, out=out, tracker=tracker, crew=crew or Crew(recipe))
            runner.check(flow, inputs=input_places(recipe), roots=roots(recipe.data))
            runner.plan(flow)
            needed = _needed(flow, until)
            ahead = {stage.name for stage in flow if stage.folder in needed and not runner.done(stage)}
            refuse_missing(recipe, ahead)
            runner.withdraw(next(stage for stage in flow if stage.name == "export"))
            if not runner.done(flow[-1]) or not all((out / name).exists() for name in _HEADLINE):
                _drop_headline(runner)
            write_json(recipe.model_dump(mode="json"), out / _RECIPE)
            if not _begin_seeds(recipe, inputs, tracker):
                runner.forget("report")  # which gives the seeds' tracked runs their figures
            for stage in flow:
                if stage.folder not in needed:
                    continue
                if runner.execute(stage) and stage.name != "report":
                    _drop_headline(runner)
                for warning in remarks(recipe, stage.name, out / stage.folder):
                    say(f"warning: {warning}")
        return json.loads((out / "metrics.json").read_text(encoding="utf-8")) if until == "report" else {}


def _refuse_left_out(recipe: Recipe, until: str) -> None:
    """Refuse to run until a stage that the recipe leaves out."""
    section = _SECTION_OF.get(until)
    if section is not None and getattr(recipe, section) is None:
        raise UserError(
            f"this recipe leaves the stage '{until}' out: it has no section '{section}'",
            remedy=f"add the section, or take its defaults with '{section}={{}}'",
        )


def _needed(flow: Sequence[Stage], until: str) -> set[str]:
    """Folders of the stages of that name, and of all that they read, directly or not."""
    needed = {stage.folder for stage in flow if stage.name == until}
    for stage in reversed(flow):  # a stage stands behind all that it reads
        if stage.folder in needed:
            needed |= set(stage.reads)
    return needed


def _begin_seeds(recipe: Recipe, inputs: str, tracker: Tracker) -> bool:
    """Begin or continue the seeds' tracked runs; whether all of them have figures already."""
    settings = sections(recipe)
    tags = {**provenance_tags(), "data.fingerprint": inputs}
    begun = [
        tracker.run(parent, parent=None, params={**settings, "seed": seed}, tags=tags)
        for seed, parent in seed_runs(recipe).items()
    ]
    return all(run.has_figures for run in begun)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder whose files of our names are not ours: they would be overwritten."""
    try:
        found = json.loads((out / _RECIPE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        found = None
    if isinstance(found, dict) and found.keys() >= {"name", "seeds", "data"}:
        return
    for name in (_RECIPE, *_HEADLINE):
        if (out / name).exists():
            raise UserError(
                f"{out / name}: a run would overwrite this file, and {out} is no run folder",
                remedy="give another --out, or move that file away",
            )


def _drop_headline(runner: Runner) -> None:
    """Take away the figures and the page of what is no longer there; the report then makes them anew."""
    stale = [name for name in _HEADLINE if (runner.out / name).exists()]
    for name in stale:
        (runner.out / name).unlink()
    if stale:
        runner.say(f"{' and '.join(stale)}: of other settings or data, removed; `recdistill run` makes them anew")
    runner.forget("report")
