"""Two changes laid over one recipe, from the command line to the table that puts their runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recdistill.cli import app

RECIPE = Path(__file__).parents[1] / "experiments" / "recipes" / "smoke.yaml"
# What neither change touches is left out or as short as it goes.
SHORT = (
    "pretrain=null", "pairs=null", "teachers.id.steps=20", "teachers.sequence=null",
    "distill.steps=4", "distill.validate_every=2", "export.mlflow_model=false",
    "evaluate.benchmarks=[seq2item_vanilla]", "rank.groups=[none,student]", "rank.dlrm.epochs=1",
    "rank.draws=10",
)  # fmt: skip

pytestmark = pytest.mark.slow


def recdistill(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"MLFLOW_TRACKING_URI": None, "COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runs_of_two_changes_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {
        "alone": "distill: {trials: [{weights: {relational: 0}}]}\n",
        "cool": "distill: {trials: [{temperature: 0.3}, {temperature: 0.2}]}\n",
    }
    for name, change in changes.items():
        Path(f"{name}.yaml").write_text(change)
        recdistill("run", str(RECIPE), *SHORT, "--with", f"{name}.yaml", "--out", f"runs/{name}")
    trials = {}
    for name in changes:
        told = json.loads(next(Path("runs", name).glob("seed-0/*/distill/distill.json")).read_text())
        trials[name] = [(of["weights"]["relational"], of["temperature"]) for of in told["student"]["trials"]]
    assert trials == {"alone": [(0.0, 0.07)], "cool": [(1.0, 0.3), (1.0, 0.2)]}
    said = recdistill("compare", "runs/alone", "runs/cool")
    assert "alone" in said and "cool" in said
    for name in changes:
        found = json.loads(Path("runs", name, "metrics.json").read_text())
        value = found["student/seq2item_vanilla/all/recall_at_10"]["value"]
        assert f"{100 * value:.2f}" in said
