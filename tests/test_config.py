"""Recipes: every fault at once, unknown keys with the nearest known one, overrides as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config import Recipe, load_recipe
from recdistill.errors import UserError

RECIPES = sorted((Path(__file__).parents[1] / "experiments" / "recipes").rglob("*.yaml"))


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
    with pytest.raises(
        UserError, match=r"trials.0.weights.relationl: unknown key; did you mean 'relational'"
    ) as caught:
        load_recipe(path)
    assert "1 fault in" in caught.value.message  # a list that lost its one member is not too short


def test_a_list_that_is_too_short_is_told_so(tmp_path):
    message = faults(tmp_path, "distill.trials=[]", "evaluate.seq2item.min_history=none")
    assert "2 faults" in message and "distill.trials: Tuple should have at least 1 item" in message


SYNTHETIC = "name: x\ndata: {adapter: synthetic}\n"


def faults(tmp_path: Path, *overrides: str, text: str = SYNTHETIC) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return str(caught.value)


def test_keys_left_at_a_teacher_that_is_off_are_all_named(tmp_path):
    message = faults(tmp_path, "teachers.id=null", "distill.trials=[{}]")
    assert "3 faults" in message
    for key in ("mining.teacher", "distill.teachers", "evaluate.baselines.teacher"):
        assert f"  - {key}: no teacher 'id_teacher' (teachers.id is null); set this key to one of: sequence_" in message


@pytest.mark.parametrize("key", ["mining.teacher", "evaluate.baselines.teacher", "distill.teachers"])
def test_a_teacher_that_no_section_makes_is_named_with_the_known_ones(tmp_path, key):
    external = "teachers: {external: [{name: production, path: p.parquet}]}\n"
    value = "[id_teacher,prodction]" if key == "distill.teachers" else "prodction"
    read = "distill.trials=[{}]"
    message = faults(tmp_path, read, f"{key}={value}", text=SYNTHETIC + external)
    assert "1 fault" in message and f"{key}: no teacher 'prodction'" in message
    assert "id_teacher, sequence_teacher, production" in message
    # What the distill stage predicts itself is a choice there alone.
    assert message.count("production, kernel_ridge") == (key == "distill.teachers")
    load_recipe(write(tmp_path, SYNTHETIC + external), [read, f"{key}={value.replace('prodction', 'production')}"])


def test_teachers_that_nobody_reads_are_told_where_they_would_be(tmp_path):
    external = "teachers: {external: [{name: ours, path: p.parquet}]}\n"
    message = faults(tmp_path, "distill.teachers=[ours]", text=SYNTHETIC + external)
    assert "no trial and no rival reads distill.teachers" in message
    assert "distill.trials.N.teachers" in message and "evaluate.baselines.teacher" in message
    path = write(tmp_path, SYNTHETIC + external)
    for reader in ("distill.trials=[{}]", "distill.rivals=[aldi]"):
        assert load_recipe(path, ["distill.teachers=[ours]", reader]).distill.teachers == ("ours",)
    load_recipe(path, ["distill.teachers=[id_teacher]"])  # as a recipe says that has its defaults written out


def test_pair_datasets_name_their_teachers(tmp_path):
    message = faults(tmp_path, "pairs={teacher_space: {teacher: production}, id_cluster: {teacher: none}}")
    assert "2 faults" in message
    assert "pairs.teacher_space.teacher: no teacher 'production'" in message and "pairs.id_cluster.teacher" in message
    recipe = load_recipe(write(tmp_path, SYNTHETIC), ["pairs={session: null, co_consumption: {neighbours: 3}}"])
    assert "session" not in recipe.pairs.datasets() and recipe.pairs.co_consumption.neighbours == 3
    assert load_recipe(write(tmp_path, SYNTHETIC)).pairs is None
    assert "pairs.same_tag.neighbour: unknown key; did you mean 'neighbours'?" in faults(
        tmp_path, "pairs={same_tag: {neighbour: 3}}"
    )


def test_a_recipe_of_no_teacher_at_all_is_told_so(tmp_path):
    assert "there is no teacher" in faults(tmp_path, "teachers.id=null", "teachers.sequence=null")


def test_a_teacher_that_is_off_may_stay_named_where_nothing_reads_it(tmp_path):
    recipe = load_recipe(
        write(tmp_path, SYNTHETIC + "distill: {trials: [{weights: {relational: 0}}]}\n"),
        ["teachers.id=null", "mining.teacher=sequence_teacher", "evaluate.baselines.include=[popularity]"],
    )
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


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
    assert len(RECIPES) == 5
    for path in RECIPES:
        overrides = ["data.root=."] if "root" in path.read_text() else []
        load_recipe(path, overrides)
        header = path.read_text().split("\n\n")[0]
        assert all(f"# {word}" in header for word in ("Purpose", "Command", "Time", "Memory", "Expected")), path


def test_overrides_reach_into_lists_and_mappings_keep_their_other_keys(tmp_path):
    path = write(
        tmp_path, SYNTHETIC + "distill: {steps: 9, trials: [{temperature: 0.1}, {temperature: 0.2, log_q: 0.5}]}\n"
    )
    recipe = load_recipe(path, ["distill.trials.1.temperature=0.3", "distill={batch_size: 64}"])
    assert [trial.temperature for trial in recipe.distill.trials] == [0.1, 0.3]
    assert recipe.distill.trials[1].log_q == 0.5
    assert (recipe.distill.steps, recipe.distill.batch_size) == (9, 64)


def test_what_a_recipe_leaves_open_must_be_given(tmp_path):
    text = "name: x\ndata: {adapter: movielens, root: '???'}\n"
    assert "data.root is required" in faults(tmp_path, text=text)
    assert str(load_recipe(write(tmp_path, text), ["data.root=/data"]).data.root) == "/data"


def test_a_bar_is_a_delimiter(tmp_path):
    assert "got '|'" in faults(tmp_path, "name=a", "seeds=|")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrain={}"], "pretrain: there are no pair datasets"),
        (["distill.start=pretrained"], "distill.start: there is no section 'pretrain' \\(got 'pretrained'\\)"),
        (
            ["pairs={session: null}", "pretrain={phases: [{name: a, datasets: [same_tag, session]}]}"],
            r"pretrain.phases.0.datasets.1: the section 'pairs' makes no such dataset \(got 'session'\)",
        ),
        (
            ["pairs={}", "pretrain={phases: [{name: a, datasets: [co_search]}]}"],
            r"pretrain.phases.0.datasets.0: this dataset needs a query table",
        ),
        (["pairs={}", "pretrain.instruction=find"], r"pretrain.instruction: student.instructions has no such name"),
        (
            ["pairs={}", "pretrain.instructions.item_label.query=describe"],
            r"pretrain.instructions.item_label.query: student.instructions has no such name \(got 'describe'\)",
        ),
    ],
)
def test_pretraining_needs_its_datasets_and_instructions(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        load_recipe(write(tmp_path, SYNTHETIC), overrides)


def test_the_readme_s_pretraining_is_a_recipe(tmp_path):
    section = (Path(__file__).parents[1] / "README.md").read_text().split("## Content-aware training")[1]
    shown = section.split("```yaml\n")[1].split("```")[0]
    recipe = load_recipe(write(tmp_path, SYNTHETIC + shown))
    assert [phase.name for phase in recipe.pretrain.phases] == ["wide", "near"]
