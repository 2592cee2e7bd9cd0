"""``experiments/ablations/worlds.py``: what it reads of finished runs, and what it makes of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recdistill.contracts.records import Records
from recdistill.contracts.tables import write_json
from recdistill.evaluation import EvaluateConfig
from recdistill.evaluation.config import BaselinesConfig
from recdistill.split import SplitConfig

ABLATIONS = Path(__file__).parents[1] / "experiments" / "ablations"
RECIPES = ABLATIONS.parent / "recipes"
USERS = pd.Index([f"u{row}" for row in range(60)])
VANILLA = ("seq2item_vanilla", "all", "recall_at_10")
AREA = ("cold_frontier", "all", "frontier_area")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(ABLATIONS))
    return {name: importlib.import_module(name) for name in ("frontiers", "claims", "world_tables", "worlds")}


def judge(records: Records, figure: tuple[str, str, str], **values: float) -> None:
    """Every user gives a subject's figure its value, give or take what all subjects share."""
    noise = np.random.default_rng(records.seed).normal(0, 0.01, len(USERS))
    for subject, value in values.items():
        records.add(subject.replace("student_at_", "student@"), *figure, np.arange(len(USERS)), USERS, value + noise)


def world(out: Path, name: str = "tiny", *, protocol: str = "folds", seeds: tuple[int, ...] = (0, 1)) -> Path:
    """A run folder as far as the tables read it: the student 1.2 × EASE, whose content variant is a little better."""
    root = out / f"{name}-{protocol}"
    split = SplitConfig(protocol=protocol, folds=2, one_fold_a_seed=protocol == "folds")  # type: ignore[arg-type]
    settings = {"split": split.model_dump(mode="json"), "evaluate": EvaluateConfig().model_dump(mode="json")}
    write_json({"name": name, "seeds": list(seeds), **settings}, root / "recipe.json")
    for seed, fold in split.runs(seeds):
        evaluated, traced = Records(seed, fold), Records(seed, fold)
        judge(evaluated, VANILLA, student=0.6, content_student=0.4, ease=0.5, ease_content=0.52, kernel_ridge=0.3)
        judge(evaluated, ("seq2item_filtered", "all", "recall_at_10"), student=0.5, content_student=0.45, ease=0.9,
              ease_content=0.5)  # fmt: skip
        judge(traced, AREA, student=0.04, kernel_ridge=0.02, raw_content=0.03, content_student=0.035, clcrec=0.01)
        for subject, area in {"student": 0.05, "kernel_ridge": 0.03, "raw_content": 0.02, "content_student": 9}.items():
            traced.whole(subject, "cold_frontier", "validation", "frontier_area", area)
        all_items = {"student": 0.6, "student_at_kernel_ridge": 0.54, "kernel_ridge": 0.3, "raw_content": 0.2}
        judge(traced, ("cold_frontier", "all", "recall_at_10"), **all_items)
        judge(traced, ("cold_frontier", "cold", "recall_at_25"), student_at_kernel_ridge=0.36, kernel_ridge=0.4)
        place = root / f"seed-{seed}" / fold / "evaluate"
        evaluated.write(place / "metric_records.parquet")
        write_json({"fingerprint": "x"}, place / "_stage.json")
        why = {"skipped": {"ials": "no package"}, "left_out": {"content_i2i": "no labels"}}
        write_json(why, place / "evaluate.json")
        of = importlib.import_module("frontiers").made_of(place)
        traced.write(root / "frontiers" / f"seed-{seed}-{fold}.parquet", metadata=of)
    return root


def test_claims_of_a_planted_world(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    world(tmp_path)
    scripts["world_tables"].show(tmp_path)
    told = json.loads((tmp_path / "worlds.json").read_text())
    claims = {row["claim"]: row for row in told["claims"]}
    # What nobody was asked has a row too, that says why, and counts in the correction.
    why = {name: row["not_asked"] for name, row in claims.items() if row["not_asked"]}
    assert why["nothing lost: content R@50"] == "content_i2i: no labels"
    assert why["distillation adds: vanilla R@10"] == "no such figure of sequence_student"
    assert why["gid R@100, test judge"] == "no such figure of student and kernel_ridge"
    asked = [row for name, row in claims.items() if name not in why]
    assert {row["claim"].split(":")[0] for row in asked} == {"floor", "all items", "cold"}
    assert min(asked, key=lambda row: row["p"])["p_holm"] == pytest.approx(
        len(claims) * min(row["p"] for row in asked), abs=1e-9
    )
    for name in why:
        row = claims[name]
        assert (row["ratio"], row["p"], row["met"], row["p_holm"]) == (None, None, None, 1.0)
    assert claims["all items: vanilla R@10"]["without"] == ["ials"]
    floor = claims["floor: vanilla R@10"]
    assert floor["ratio"] == pytest.approx(1.5, rel=0.01) and floor["met"] and floor["certain"]
    assert floor["units"] == 60 and len(floor["by_seed"]) == 2
    assert floor["p"] <= floor["p_holm"] <= len(claims) * floor["p"] + 1e-9
    # The bar is the best of all items by the vanilla benchmark, on the filtered one too.
    assert {claims[f"all items: {name} R@10"]["other"] for name in ("vanilla", "filtered")} == {"ease_content"}
    assert claims["all items: vanilla R@10"]["met"] and not claims["all items: filtered R@10"]["met"]
    # The student must lie above the best of the others on the test; what it is compared with at a level of its own is
    # the best of baselines and rivals on validation.
    assert claims["cold: frontier area, strongest other"]["other"] == "content_student"
    there = claims["cold: all R@10 at its new R, best on validation"]
    assert (there["other"], there["student"]) == ("kernel_ridge", "student@kernel_ridge")
    assert there["ratio"] == pytest.approx(1.8, rel=0.01) and there["met"]
    # The level of validation does not give the student as much of new items on the test, and that is said.
    new = claims["cold: new R@25 there"]
    assert (new["other"], new["student"], new["bar"]) == ("kernel_ridge", "student@kernel_ridge", 1.0)
    assert new["ratio"] == pytest.approx(0.9, rel=0.01) and not new["met"] and new["certain"]
    kept = claims["cold: all R@10 there of the student's own best"]
    assert kept["ratio"] == pytest.approx(0.9, rel=0.01) and kept["met"] and kept["p"] < 0.01  # of .85, not of 1
    # Every other's frontier, each at a level of its own; what the student is compared with there is marked.
    frontiers = {row["other"]: row for row in told["frontiers"]}
    assert set(frontiers) == {"raw_content", "kernel_ridge", "content_student", "clcrec"}
    assert [name for name, row in frontiers.items() if row["best_on_validation"]] == ["kernel_ridge"]
    ridge = frontiers["kernel_ridge"]
    assert ridge["difference"] == pytest.approx(0.02) and ridge["low"] == pytest.approx(ridge["high"])  # paired
    shown = {key: ridge[key] for key in ("all", "new", "student_all", "student_new", "ratio", "gives_up")}
    assert shown == pytest.approx(
        {"all": 0.3, "new": 0.4, "student_all": 0.54, "student_new": 0.36, "ratio": 1.8, "gives_up": 0.1}, abs=0.02
    )
    assert frontiers["clcrec"]["ratio"] is None  # it was not asked at a level of its own
    rows = {(row["subject"], row["figure"]): row for row in told["subjects"]}
    assert rows["ease", "vanilla R@10"]["value"] == pytest.approx(0.5, abs=0.01)
    assert ("student@kernel_ridge", "vanilla R@10") not in rows
    assert rows["student", "frontier area %²"]["n"] == 2


def test_a_world_without_frontiers_has_the_rows_all_the_same(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    root = world(tmp_path, seeds=(0,))
    whole = _told_claims(scripts, tmp_path)
    of = scripts["frontiers"].made_of(root / "seed-0" / "fold-0" / "evaluate")
    Records(0, "fold-0").write(root / "frontiers" / "seed-0-fold-0.parquet", metadata=of)
    bare = _told_claims(scripts, tmp_path)
    assert list(bare) == list(whole)
    cold = [name for name in bare if name.startswith("cold:")]
    assert len(cold) == 4 and all(bare[name]["not_asked"] and not whole[name]["not_asked"] for name in cold)
    assert "clcrec" in bare["cold: frontier area, strongest other"]["not_asked"]


def _told_claims(scripts: dict[str, ModuleType], out: Path) -> dict[str, dict[str, Any]]:
    scripts["world_tables"].show(out)
    return {row["claim"]: row for row in json.loads((out / "worlds.json").read_text())["claims"]}


def test_the_judge_of_others_is_gid_itself_under_folds(scripts: dict[str, ModuleType]) -> None:
    records = Records(0, "fold-0")
    judge(records, VANILLA, student=0.6)
    by = {
        protocol: {
            claim.name: claim.benchmark
            for claim in scripts["claims"].claims(records.table().to_pandas(), protocol=protocol, all_at=10, cold_at=25)
        }
        for protocol in ("time", "folds")
    }
    assert by["time"]["gid R@100, judge of others"] == "gid_others_i2i"
    assert by["folds"]["gid R@100, judge of others"] == "gid_i2i"


def test_unfinished_worlds_are_left_out_and_named(
    scripts: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, protocol="time")
    unfinished = world(tmp_path, "other", protocol="time")
    (unfinished / "seed-1" / "time" / "evaluate" / "_stage.json").unlink()
    stale = world(tmp_path, "stale", protocol="time")  # evaluated again, its frontiers not yet
    write_json({"fingerprint": "y"}, stale / "seed-1" / "time" / "evaluate" / "_stage.json")
    scripts["world_tables"].show(tmp_path)
    said = capsys.readouterr().out
    assert "other-time: not finished, left out" in said and "stale-time: not finished, left out" in said
    told = json.loads((tmp_path / "worlds.json").read_text())
    assert {(row["world"], row["protocol"]) for row in told["subjects"]} == {("tiny", "time")}


def test_recipes_get_their_protocol_ials_and_data(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    recipe_of = scripts["worlds"].recipe_of
    (tmp_path / "movielens-posters").mkdir()
    films = recipe_of(RECIPES / "movielens_posters.yaml", ["seeds=[0,1]"], protocol="folds", data=tmp_path)
    assert films.runs() == ((0, "fold-0"), (1, "fold-1"))
    assert films.data.root == tmp_path / "movielens-posters" and films.teachers.ials is None
    demo = recipe_of(RECIPES / "demo.yaml", [], protocol="time", data=tmp_path)
    assert demo.runs() == ((0, "time"),)
    for recipe in (films, demo):
        assert recipe.evaluate.baselines.include == (*BaselinesConfig().include, "ials")
    only = recipe_of(RECIPES / "demo.yaml", ["evaluate.baselines.include=[ease]"], protocol="time", data=None)
    assert only.evaluate.baselines.include == ("ease",)  # what the command line says goes


def test_data_that_are_not_there_are_missed_before_any_world_is_run(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = ",".join(str(RECIPES / f"{name}.yaml") for name in ("smoke", "movielens_posters"))
    told = [recipes, "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["worlds.py", *told])
    with pytest.raises(SystemExit) as ended:
        scripts["worlds"].main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "no folder 'movielens-posters' there" in said and "remedy:" in said
    assert not (tmp_path / "out").exists()
