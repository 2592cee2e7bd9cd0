"""The files of ``experiments/ablations``: one change each, laid over a recipe."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml

from recdistill.config import Recipe, load_recipe
from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.errors import UserError
from recdistill.students import StudentConfig

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ABLATIONS = sorted((EXPERIMENTS / "ablations").rglob("*.yaml"))
RECIPE = EXPERIMENTS / "recipes" / "movielens_posters.yaml"
# From which others differ by one change.
BASES = ("sequence_to_item", "relational", "kernel_ridge", "ranking_of_predictions", "catalogue_anchors")
# What belongs to one change: where a file names one of a group, it may name the others.
TOGETHER = ({"teachers", "catalogue_items"}, {"weights", "soft_targets"})


@cache
def laid_over(path: Path) -> tuple[Recipe, Trial]:
    recipe = load_recipe(RECIPE, ["data.root=."], changes=[path])
    (trial,) = recipe.distill.trials
    return recipe, trial


def test_every_ablation_is_found():
    assert len(ABLATIONS) == 23
    assert set(BASES) < {path.stem for path in ABLATIONS}


def test_the_base_is_sequence_to_item_as_the_default_trials_have_it():
    temperature = DistillConfig().trials[0].temperature
    _, trial = laid_over(EXPERIMENTS / "ablations" / "sequence_to_item.yaml")
    assert trial == Trial(temperature=temperature, weights=Weights(relational=0))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_is_valid_and_changes_one_thing(path):
    recipe, trial = laid_over(path)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(f"# {word}" in header for word in ("Purpose", "Command", "Time", "Memory", "Expected"))
    assert f"--with experiments/ablations/{path.name}" in header
    assert recipe.distill == DistillConfig(trials=(trial,))  # nothing but the trial
    bases = {name: laid_over(path.with_stem(name))[1] for name in BASES if name != path.stem}
    changed = {
        name: {key for key in Trial.model_fields if getattr(trial, key) != getattr(base, key)}
        for name, base in bases.items()
    }
    if recipe.student != StudentConfig():  # the one thing is the student's
        assert not changed["sequence_to_item"]
    else:
        assert any(len(keys) == 1 or keys in TOGETHER for keys in changed.values())
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= {"distill", "student", "teachers"}


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
