"""Recipes: every fault at once, unknown keys with the nearest known one, overrides as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config import load_recipe
from recdistill.errors import UserError

RECIPES = sorted((Path(__file__).parents[1] / "experiments").rglob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_are_yaml_values(tmp_path):
    path = write(tmp_path, "name: x\ndata: {adapter: synthetic}\n")
    recipe = load_recipe(path, ["seeds=[0,1,2]", "distill.steps=7", "split.protocol=folds"])
    assert recipe.seeds == (0, 1, 2) and recipe.distill.steps == 7 and recipe.split.protocol == "folds"


def test_all_faults_are_told_at_once_with_the_nearest_key(tmp_path):
    path = write(
        tmp_path,
        "name: x\nseeds: [0, 0]\ndata: {adapter: synthetic}\ndistill: {stepz: 7, batch_size: -1}\nminning: {}\n",
    )
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert "4 faults" in message
    assert "distill.stepz: unknown key; did you mean 'steps'?" in message
    assert "minning: unknown key; did you mean 'mining'?" in message
    assert "distill.batch_size" in message and "seeds must be distinct" in message


def test_keys_inside_lists_of_settings_are_explained(tmp_path):
    path = write(tmp_path, "name: x\ndata: {adapter: synthetic}\ndistill: {trials: [{weights: {relationl: 1}}]}\n")
    with pytest.raises(UserError, match=r"trials.0.weights.relationl: unknown key; did you mean 'relational'"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: [", [], "not a readable YAML"),
        ("- a", [], "mapping of sections"),
        ("name: x", [], "data: is required"),
        ("name: x\ndata: {adapter: synthetic}", ["steps"], "is not an override"),
        ("name: x\ndata: {adapter: synthetic}", ["name.deep=1"], "name: Input should be a valid string"),
    ],
)
def test_what_is_no_recipe_is_said_clearly(tmp_path, text, overrides, message):
    with pytest.raises(UserError, match=message):
        load_recipe(write(tmp_path, text), overrides)


def test_a_missing_recipe_is_said_clearly(tmp_path):
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_every_recipe_in_the_repository_is_valid():
    assert len(RECIPES) == 4
    for path in RECIPES:
        overrides = ["data.root=."] if "root" in path.read_text() else []
        load_recipe(path, overrides)
        header = path.read_text().split("\n\n")[0]
        assert all(f"# {word}" in header for word in ("Purpose", "Command", "Time", "Memory", "Expected")), path
