"""``rankers/gains.py`` and ``rankers/power.py`` of the benchmarks: what they print of rankings, and what they see."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from downstream_helpers import planted_world

from recdistill.contracts.log import Log
from recdistill.rankers import RankConfig
from recdistill.rankers.config import TreesConfig
from recdistill.rankers.contrast import Trained
from recdistill.rankers.data import Data
from recdistill.rankers.predictions import write_predictions
from recdistill.rankers.rows import Rows

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RECIPE = EXPERIMENTS / "recipes" / "smoke.yaml"
GAINS = {
    "none": 0.0, "random": 0.0, "raw_content": 0.5, "student": 0.6, "student_white": 0.7, "raw_content+student": 0.9,
    "raw_content+student_white": 0.5,
}  # fmt: skip


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "benchmarks" / "rankers"))
    return {name: importlib.import_module(name) for name in ("gains", "power")}


@pytest.fixture
def ranked(tmp_path: Path) -> Path:
    """Two seeds of trees in a run folder, in which each group knows as much more of the label as ``GAINS`` says."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(150, dtype=np.int32), 20), rng.integers(50, size=3000).astype(np.int32)
    signal, extra = rng.normal(size=(2, 3000))
    label = signal + extra + rng.normal(size=3000) > 0
    time = np.tile(np.arange(20), 150)
    rows = Rows(user, item, time, label, label.astype(np.int64), np.ones(3000, dtype=bool))
    nobody = np.zeros(0, dtype=np.int32)
    users, items = pd.Index([f"u{n}" for n in range(150)]), pd.Index([f"i{n}" for n in range(50)])
    history = Log(users, items, nobody, nobody, nobody, nobody, ("like",), nobody.astype(np.float32))
    for seed in (0, 1):
        noise = 0.02 * np.random.default_rng((1, seed)).normal(size=(len(GAINS), 3000))
        logits = {name: signal + gain * extra + one for (name, gain), one in zip(GAINS.items(), noise, strict=True)}
        folder = tmp_path / f"seed-{seed}" / "time" / "rank"
        splits = {"all": np.ones(3000, dtype=bool), "cold": item < 10}
        write_predictions(
            folder / "predictions.parquet", rows, {"trees": logits}, history=history, splits=splits, seed=seed
        )
        about = {name: {"validation_logloss": 0.5 - 0.1 * gain + 0.01 * seed} for name, gain in GAINS.items()}
        one = {"rows": 3000, "users": 150, "cold_share": 0.2}
        told = {"rows": {"train": one, "test": one}, "groups": {"ranker_trees": about}}
        (folder / "rank.json").write_text(json.dumps(told))
    return tmp_path


def test_the_table_has_a_row_a_group_and_the_bars_say_what_is_met(scripts: dict[str, ModuleType], ranked: Path) -> None:
    gains = scripts["gains"]
    recipe = gains.recipe_of(RECIPE, [], data=None, seeds="0,1", models="trees")
    assert {"none", "student_free", "raw_content+student_residual"} <= set(recipe.rank.groups)
    lines = gains.tables(recipe, out=ranked, draws=100)
    at = lines.index("trees, all items")
    assert [line.split()[0] for line in lines[at + 2 : at + 2 + len(GAINS)]] == list(GAINS)
    student, random = (next(line for line in lines if line.startswith(f"{name} ")) for name in ("student", "random"))
    assert float(student.split()[2]) > 5
    assert abs(float(random.split()[2])) < 0.5
    assert any("student_white" in line and line.endswith(": student_white") for line in lines)
    met = {line[9:71].strip(): line.startswith("met") for line in lines if line.startswith(("met", "not met"))}
    assert met["AUC, student over raw_content"]
    assert met["AUC, raw_content+student over raw_content"]
    assert met["AUC, student_white over raw_content"]
    assert not met["AUC, raw_content+student_white over raw_content"]
    assert met["AUC of cold items, student over none"] and met["GAUC, raw_content+student over none"]


def test_a_bar_off_zero_needs_an_interval_off_zero(scripts: dict[str, ModuleType]) -> None:
    gains = scripts["gains"]
    sure = Trained(0.004, 0.001, math.inf)
    gain = gains.Gain(0.004, -0.001, 0.009, (0.004,), sure, 0.1, 0.1)
    assert gains.Bar("it", gain, 0.3).met
    assert not gains.Bar("it", gain, 0.3, off_zero=True).met
    assert not gains.Bar("it", gain, 0.5).met
    assert gains.Bar("it", gain, 0.5).line().startswith("not met")
    above = replace(gain, low=0.001)
    assert gains.Bar("it", above, 0.3, off_zero=True).met
    # Sure over users, but another training could be without it.
    assert not gains.Bar("it", replace(above, trained=Trained(0.004, 0.003, 2.0)), 0.3, off_zero=True).met


def test_the_control_is_met_unless_noise_is_seen_over_trainings(scripts: dict[str, ModuleType]) -> None:
    gains = scripts["gains"]
    gain = gains.Gain(0.002, 0.001, 0.003, (0.001, 0.003), Trained(0.002, 0.001, 1.1), 1e-9, 1e-9)
    assert gains.Control(gain).met
    assert not gains.Control(replace(gain, trained=Trained(0.002, 0.0005, math.inf))).met


def test_a_test_window_without_new_items_has_no_bars_of_them(scripts: dict[str, ModuleType], ranked: Path) -> None:
    for path in ranked.glob("seed-*/time/rank/predictions.parquet"):
        table = pq.read_table(path)
        nobody = pa.array(np.zeros(len(table), dtype=bool))
        pq.write_table(table.set_column(table.column_names.index("cold"), "cold", nobody), path)
    gains = scripts["gains"]
    recipe = gains.recipe_of(RECIPE, [], data=None, seeds="0,1", models="trees")
    lines = gains.tables(recipe, out=ranked, draws=50)
    assert "trees, all items" in lines and not any("cold items" in line for line in lines[1:])
    assert any(line.startswith("met") for line in lines)


def test_power_of_a_strong_column_and_of_noise(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    """Trees learn a column that tells the truth, and noise is not seen."""
    power = scripts["power"]
    world = planted_world(tmp_path)
    config = RankConfig(models=("trees",), trees=TreesConfig(trees=40))
    data = Data.read(config, world.fold, tmp_path / "data" / "items.parquet", seed=0)
    truth = tuple(rows.label.astype(np.float32) for rows in (data.train, data.test))
    base = power.trained("trees", config, data, power.planted(truth, math.inf, [0, 1], kind=1), [0, 1])
    seen = {}
    for noise in (1.0, math.inf):
        with_it = power.trained("trees", config, data, power.planted(truth, noise, [0, 1], kind=0), [0, 1])
        seen[noise] = power.seen(data.test, base, with_it, of=np.unique(data.test.user))
    assert power.count([seen[1.0]], "by_users") == "1 of 1"
    assert power.count([seen[math.inf]], "by_both") == "0 of 1"
    assert seen[math.inf].by_both.value < 0.2 * seen[1.0].by_both.value
    assert all(one.by_both.error >= one.by_users.error > 0 for one in seen.values())


def test_parts_have_no_user_in_common(scripts: dict[str, ModuleType]) -> None:
    power = scripts["power"]
    user = np.repeat(np.arange(30), 2)
    nothing = np.zeros(60, dtype=bool)
    rows = Rows(user, user, user, nothing, user, nothing)
    found = power.divided(rows, 4)
    assert [len(of) for of in found] == [8, 8, 7, 7]
    assert sorted(np.concatenate(found)) == list(range(30))
    (everyone,) = power.divided(rows, 1)
    assert sorted(everyone) == list(range(30))
