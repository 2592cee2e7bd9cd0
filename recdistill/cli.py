"""The command line; :mod:`recdistill.exits` says how a command ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recdistill.exits import exit_codes

# Threads that wait by spinning take the cores from each other as soon as anything else runs on the machine: several
# times slower there, and no faster alone. It must be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil recommenders into content encoders.",
)
_err = Console(stderr=True, highlight=False)

RecipeArgument = Annotated[
    Path, typer.Argument(help="A recipe file, e.g. experiments/recipes/demo.yaml, or a packaged one's name, e.g. demo.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change: dotted.key=value …")]
Changes = Annotated[
    list[Path] | None,
    typer.Option(
        "--with",
        help="A file of changes to the recipe, e.g. experiments/ablations/hard_negatives.yaml; may be repeated.",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/<recipe name>[-<changes>].")]


@exit_codes()
def _flow(
    recipe: Path, overrides: list[str] | None, changes: list[Path] | None, out: Path | None, *, until: str
) -> None:
    from transformers.utils import logging

    from recdistill import flow
    from recdistill.config import load_recipe
    from recdistill.crew import Crew
    from recdistill.report import summary_table
    from recdistill.resources import find_recipe
    from recdistill.tracking import page
    from recdistill.world import World

    logging.disable_progress_bar()  # our own progress says what matters
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    settings = load_recipe(find_recipe(recipe), overrides or [], changes=changes or [])
    folder = out or Path("runs") / "-".join([settings.name, *(path.stem for path in changes or [])])
    with World.joined() as world:
        crew = Crew(settings, world)
        if not world.leads:
            crew.follow()
            return
        try:
            metrics = flow.run(
                settings,
                out=folder,
                until=until,
                say=lambda line: _err.print(line, markup=False, soft_wrap=True),
                crew=crew,
            )
        finally:
            crew.dismiss()
    if not metrics:
        return
    Console().print(summary_table(metrics))
    print(f"report: {folder / 'report.html'}")
    print("MLflow's page, the runs and their curves:")
    print(page(folder))  # a line of its own, to be copied


@app.command()
def run(recipe: RecipeArgument, overrides: Overrides = None, changes: Changes = None, out: Out = None) -> None:
    """Run everything: validate → … → report. What is unchanged is skipped, what was killed goes on."""
    _flow(recipe, overrides, changes, out, until="report")


def _add_stage(name: str, what: str) -> None:
    @app.command(name, help=f"{what} Runs what comes before it first, if that is not done.")
    def stage(recipe: RecipeArgument, overrides: Overrides = None, changes: Changes = None, out: Out = None) -> None:
        _flow(recipe, overrides, changes, out, until=name)


for _name, _what in {
    "validate": "Check raw data against the contracts and write canonical tables.",
    "encode": "Run the frozen towers over the catalogue (cached).",
    "split": "Cut the log into training, validation and test, and prove that nothing leaks.",
    "teach": "Train the TorchRec teachers.",
    "mine": "Mine interest pairs from the users' histories.",
    "pair": "Make pair datasets of log and catalogue, where the recipe has a section 'pairs'.",
    "pretrain": "Train the student on pair datasets, where the recipe has a section 'pretrain'.",
    "distill": "Train the student and the content-only student.",
    "evaluate": "Score students, teachers and baselines on all benchmarks.",
    "rank": "Train a ranker with and without our features.",
    "export": "Write embeddings, semantic IDs, match features and the student.",
    "report": "Write metrics.json and report.html.",
}.items():
    _add_stage(_name, _what)


@app.command()
def compare(runs: Annotated[list[Path], typer.Argument(help="Run folders.")]) -> None:
    """Print the metrics of several runs side by side."""
    from recdistill.report import compare as compare_runs

    with exit_codes():
        Console().print(compare_runs(runs))


@app.command()
def sync(out: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Send what a tracking server that was down has not received yet."""
    from recdistill.tracking import sync as send

    with exit_codes():
        everything = send(out)
    print(
        "everything is sent"
        if everything
        else "the tracking server still does not answer: nothing is lost, try again later"
    )
    raise typer.Exit(0 if everything else 1)


@app.command()
def doctor() -> None:
    """Check this machine: the torch/fbgemm/torchrec triple by real operations, encoders, disk, MLflow."""
    from recdistill.doctor import diagnose, show

    checks = diagnose()
    show(checks)
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def main() -> None:
    """Entry point of the ``recdistill`` command."""
    app()
