"""What students are trained again for: what the distill stage reads of the evaluation, and nothing else of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import grimp
import pytest

from recdistill import stages as module
from recdistill.config import load_recipe
from recdistill.crew import Crew
from recdistill.runs import Runner, Stage

DEMO = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "demo.yaml"


def stages(out: Path, *overrides: str) -> list[Stage]:
    recipe = load_recipe(DEMO, ["student.skip={}", *overrides])
    return module.stages(recipe, inputs="", out=out, tracker=SimpleNamespace(), crew=Crew(recipe))  # type: ignore[arg-type]


def changed(out: Path, *overrides: str) -> set[str]:
    """The stages whose keys the overrides change."""
    keys = []
    for told in ((), overrides):
        runner = Runner(out, lambda line: None)
        runner.plan(stages(out, *told))
        keys.append(runner.fingerprints)
    return {folder.rpartition("/")[2] for folder in keys[0] if keys[0][folder] != keys[1][folder]}


@pytest.mark.parametrize(
    "override",
    [
        "baselines.include=[popularity]", "baselines.ridge.l2=[1,10]", "baselines.ease.max_items=10",
        "seq2item.filtered_last=7", "seq2item.agree_clusters=3", "new_items.share=0.3", "judge.clusters=3",
        "i2i.min_together=3", "benchmarks=[bijective]",
    ],
)  # fmt: skip
def test_what_judges_alone_trains_no_student_again(tmp_path, override):
    found = changed(tmp_path, f"evaluate.{override}")
    assert "evaluate" in found and "distill" not in found


@pytest.mark.parametrize(
    "override",
    [
        "baselines.trials=3", "baselines.tune_at=3", "baselines.raw_content.weight=[0.5,2]",
        "baselines.kernel_ridge.max_points=99", "seq2item.length=3", "seq2item.min_positive=2", "new_items.cold_at=3",
        "judge.dim=3", "i2i.min_support=3",
    ],
)  # fmt: skip
def test_what_chooses_trains_students_again(tmp_path, override):
    assert {"distill", "evaluate"} <= changed(tmp_path, f"evaluate.{override}")


def test_the_code_of_the_key_is_what_the_stage_imports_of_the_evaluation(tmp_path):
    graph = grimp.build_graph("recdistill", cache_dir=None)
    imported = {
        module.removeprefix("recdistill.").replace(".", "/")
        for module in graph.find_upstream_modules("recdistill.distill", as_package=True)
        if module.startswith("recdistill.evaluation.")
    }
    distilling = next(stage for stage in stages(tmp_path) if stage.name == "distill")
    code = [part for part in distilling.code if part.startswith("evaluation")]
    assert all(any(module == part or module.startswith(f"{part}/") for part in code) for module in imported)
    assert all(any(module == part or module.startswith(f"{part}/") for module in imported) for part in code)
    assert "evaluation/significance" not in imported and "evaluation" not in code


@pytest.mark.parametrize(
    ("stage", "package"),
    [
        ("validate", "ingest"), ("encode", "students"), ("split", "split"), ("teach", "teachers"), ("mine", "mining"),
        ("distill", "distill"), ("evaluate", "evaluation"), ("rank", "rankers"), ("export", "export"),
    ],
)  # fmt: skip
def test_a_stage_is_made_again_by_a_change_of_any_package_that_it_imports(tmp_path, stage, package):
    graph = grimp.build_graph("recdistill", cache_dir=None)
    imported = {
        module.split(".")[1] for module in graph.find_upstream_modules(f"recdistill.{package}", as_package=True)
    }
    (code,) = {one.code for one in stages(tmp_path) if one.name == stage}
    packages = {part for part in imported if graph.find_children(f"recdistill.{part}")}
    assert packages <= {part.split("/")[0] for part in code}
