"""The files of ``experiments/ablations``: one change each, laid over a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from recdistill.config import load_recipe
from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ABLATIONS = sorted((EXPERIMENTS / "ablations").rglob("*.yaml"))
RECIPE = EXPERIMENTS / "recipes" / "movielens_posters.yaml"
BASES = {
    name: Trial(weights=Weights(relational=weight)) for name, weight in (("sequence_to_item", 0), ("relational", 1))
}
# What belongs to one change: where a file names one of a group, it may name the others.
TOGETHER = ({"teachers", "catalogue_items"}, {"weights", "soft_targets"})


def test_every_ablation_is_found():
    assert len(ABLATIONS) == 19
    assert {"sequence_to_item", "relational"} < {path.stem for path in ABLATIONS}


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_is_valid_and_changes_one_thing(path):
    recipe = load_recipe(RECIPE, ["data.root=."], changes=[path])
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(f"# {word}" in header for word in ("Purpose", "Command", "Time", "Memory", "Expected"))
    assert f"--with experiments/ablations/{path.name}" in header
    (trial,) = recipe.distill.trials
    assert recipe.distill == DistillConfig(trials=(trial,))  # nothing but the trial
    changed = {
        name: {key for key in Trial.model_fields if getattr(trial, key) != getattr(base, key)}
        for name, base in BASES.items()
    }
    assert min(len(keys) for keys in changed.values()) <= 1 or any(keys in TOGETHER for keys in changed.values())
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= {"distill", "teachers"}


def test_changes_are_laid_over_the_recipe_and_overrides_over_them(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("distill: {steps: 7, batch_size: 64, trials: [{temperature: 0.1}, {temperature: 0.2}]}\n")
    second.write_text("distill: {steps: 8, trials: [{temperature: 0.3}]}\n")
    recipe = load_recipe(RECIPE, ["data.root=.", "distill.trials.0.log_q=0.5"], changes=[first, second])
    assert (recipe.distill.steps, recipe.distill.batch_size) == (8, 64)
    assert [(trial.temperature, trial.log_q) for trial in recipe.distill.trials] == [(0.3, 0.5)]


def test_changes_that_cannot_be_read_say_which_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.yaml: no such recipe"):
        load_recipe(RECIPE, ["data.root=."], changes=[tmp_path / "gone.yaml"])
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    with pytest.raises(UserError, match=r"list\.yaml: a recipe is a mapping"):
        load_recipe(RECIPE, ["data.root=."], changes=[tmp_path / "list.yaml"])
