"""``experiments/ablations/objectives.py``: files of one change each, trained and judged on the validation window."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from recdistill.contracts.tables import read_metadata, read_table
from recdistill.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ABLATIONS, RECIPE = EXPERIMENTS / "ablations", EXPERIMENTS / "recipes" / "smoke.yaml"
# What no file here reads is left out or as short as it goes.
SHORT = [
    "pretrain=null", "pairs=null", "teachers.id.steps=20", "teachers.sequence=null", "distill.steps=6",
    "distill.validate_every=3", "evaluate.baselines.trials=2", "evaluate.i2i.min_support=1",
]  # fmt: skip
FILES = ("sequence_to_item", "kernel_ridge", "no_skip")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ABLATIONS))
    return importlib.import_module("objectives")


def paths(*names: str) -> list[Path]:
    return [ABLATIONS / f"{name}.yaml" for name in names]


@pytest.mark.slow
def test_files_are_judged_by_the_validation_window_alone_and_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = [*SHORT, "seeds=[0,1]"]
    recipes = script.recipes_of(RECIPE, paths(*FILES), told)
    script.run(recipes["sequence_to_item"], out=tmp_path, until="mine", say=print)
    test = tmp_path / "split" / "time" / "test.parquet"
    test.write_bytes(bytes(test.stat().st_size))  # whoever reads it now finds no table
    command = [
        "",
        str(RECIPE),
        *SHORT,
        "--out",
        str(tmp_path),
        "--seeds",
        "0,1",
        "--files",
        "kernel_ridge.yaml,no_skip.yaml",
    ]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    said = capsys.readouterr().out
    found = sorted(tmp_path.glob("objectives/*/*.parquet"))
    assert [(path.parent.name, path.stem) for path in found] == [
        (f"{seed}-time", name) for seed in (0, 1) for name in sorted(FILES)
    ]
    recalls: dict[str, list[float]] = {name: [] for name in FILES}
    for path in found:
        records = read_table(path).to_pandas()
        assert set(records["subject"]) == {path.stem}
        by_user = records.query("benchmark == 'seq2item_vanilla' and split == 'all' and metric == 'recall_at_10'")
        recalls[path.stem].append(by_user["total"].sum() / by_user["count"].sum())
        # The questions are those by which the step was chosen.
        assert recalls[path.stem][-1] == pytest.approx(read_metadata(path)["validation"])
        assert {"seq2item_filtered", "new_items", "gid_i2i", "content_i2i"} < set(records["benchmark"])
    for name, figures in recalls.items():
        (row,) = [line for line in said.splitlines() if line.startswith(f"│ {name} ")]
        assert f"│ {50 * sum(figures):.2f} " in row
        assert row.count("[") == (0 if name == "sequence_to_item" else 5)
    assert "over all 10 of them" in said and "* measured" not in said

    written = {path: path.stat().st_mtime_ns for path in found}
    script.main()
    assert {path: path.stat().st_mtime_ns for path in found} == written
    longer = script.recipes_of(RECIPE, paths(*FILES), [*told, "distill.steps=7"])
    window = script.Window(recipes["no_skip"], out=tmp_path, seed=1, fold="time")
    assert window.is_done("no_skip", recipes["no_skip"]) and not window.is_done("no_skip", longer["no_skip"])


def test_all_files_have_the_teachers_of_each(script: ModuleType) -> None:
    recipes = script.recipes_of(RECIPE, paths("sequence_to_item", "soft_targets_ease", "fused_teachers"), [])
    assert all(recipe.teachers.ease is not None for recipe in recipes.values())
    assert {recipe.teachers.fusion.of for recipe in recipes.values()} == {("id_teacher", "ease_teacher")}
    assert recipes["sequence_to_item"].teachers.id.steps == 200  # the recipe's own
    assert recipes["soft_targets_ease"].distill.trials[0].soft_targets.teacher == "ease_teacher"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("mining: {length: 5}", "changes mining"),
        ("distill: {trials: [{}, {temperature: 0.2}]}", "2 trials"),
        ("teachers: {ease: {l2: 3}}", "not the teachers.ease"),
        ("distill: {start: pretrained, trials: [{}]}", "pretrained"),
    ],
)
def test_a_file_that_cannot_be_compared_is_refused(script: ModuleType, tmp_path: Path, change: str, why: str) -> None:
    (tmp_path / "odd.yaml").write_text(change + "\n")
    with pytest.raises(UserError, match=why):
        script.recipes_of(RECIPE, [*paths("soft_targets_ease"), tmp_path / "odd.yaml"], [])
