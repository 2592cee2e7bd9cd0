"""The run folder at the command's border: what is refused, what counts as a change, what does not."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from recdistill import flow, resources
from recdistill import stages as module
from recdistill.cli import app
from recdistill.config import load_recipe
from recdistill.contracts.tables import write_json
from recdistill.crew import Crew
from recdistill.remarks import remarks
from recdistill.report.folder import RunFolder
from recdistill.runs import Runner, locked

LOG = "user,item,ts\n" + "".join(f"u{n % 5},i{n % 7},{1_600_000_000 + 60 * n}\n" for n in range(60))
RECIPE = """
name: tiny
data:
  adapter: generic
  root: {root}
  interactions:
    path: raw.csv
    columns: {{user: user, item: item, timestamp: ts}}
    behaviours: [{{name: seen}}]
"""


class World:
    """A folder with a recipe and a log in ``data/``, as a user may well have it."""

    def __init__(self, home: Path) -> None:
        self.home, self.recipe = home, home / "r.yaml"
        (home / "data").mkdir()
        (home / "data" / "raw.csv").write_text(LOG)
        self.recipe.write_text(RECIPE.format(root=home / "data"))

    def command(self, command: str, out: Path, *overrides: str) -> tuple[int, str]:
        arguments = [command, str(self.recipe), *overrides, "--out", str(out)]
        result = CliRunner().invoke(app, arguments, env={"MLFLOW_TRACKING_URI": None})
        assert result.exit_code in (0, 2), (result.output, result.exception)
        return result.exit_code, result.stderr

    def fingerprints(self, *overrides: str) -> dict[str, str]:
        """Of every stage, by folder."""
        recipe = load_recipe(self.recipe, list(overrides))
        inputs = flow.input_fingerprint(recipe.data)
        found = module.stages(
            recipe, inputs=inputs, out=self.home / "out", tracker=SimpleNamespace(), crew=Crew(recipe)
        )
        runner = Runner(self.home / "out", lambda line: None)
        runner.plan(found)
        return runner.fingerprints


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_users_own_folders_are_refused_and_stay(world: World) -> None:
    code, said = world.command("validate", world.home)
    assert code == 2 and "error:" in said and "remedy: give another --out" in said
    assert (world.home / "data" / "raw.csv").read_text() == LOG
    assert sorted(path.name for path in world.home.iterdir()) == [".lock", "data", "r.yaml"]
    (world.home / "other").mkdir()
    (world.home / "other" / "export").mkdir()
    (world.home / "other" / "export" / "mine.txt").write_text("")
    code, said = world.command("validate", world.home / "other")
    assert code == 2 and "other/export" in said and "'mine.txt'" in said
    assert not (world.home / "other" / "data").exists()


def test_input_within_a_stages_folder_is_refused(world: World) -> None:
    out = world.home / "out"
    assert world.command("validate", out)[0] == 0
    shutil.copy(world.home / "data" / "raw.csv", out / "data" / "raw.csv")
    code, said = world.command("validate", out, f"data.root={out / 'data'}", "data.user_ids=string")
    assert code == 2 and "over its own input" in said and (out / "data" / "raw.csv").exists()


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "recipe.json"])
def test_files_of_our_names_in_what_is_no_run_folder_stay(world: World, name: str) -> None:
    (world.home / "out").mkdir()
    (world.home / "out" / name).write_text("mine")
    code, said = world.command("validate", world.home / "out")
    assert code == 2 and name in said
    assert (world.home / "out" / name).read_text() == "mine"


def test_a_folder_in_use_is_refused(world: World) -> None:
    (world.home / "out").mkdir()
    with locked(world.home / "out"):
        code, said = world.command("validate", world.home / "out")
    assert code == 2 and "in use by another run (pid" in said
    assert world.command("validate", world.home / "out")[0] == 0


@pytest.mark.parametrize("place", ["r.yaml", "r.yaml/below"])
def test_an_out_that_cannot_be_a_folder_is_a_users_mistake(world: World, place: str) -> None:
    code, said = world.command("validate", world.home / place)
    assert code == 2 and "error:" in said and "remedy:" in said


def test_an_out_that_is_a_socket_is_a_users_mistake(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(world.home / "out"))
        assert world.command("validate", world.home / "out")[0] == 2


def test_the_last_line_is_a_command_that_needs_no_activated_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = {"value": 0.5, "sd": 0.0, "n": 1, "low": 0.4, "high": 0.6, "units": 9}
    monkeypatch.setattr(flow, "run", lambda *_, **__: {"student/ranker/all/auc": figure})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(app, ["run", str(world.recipe), "--out", str(world.home / "my out")])
    program, *rest = shlex.split(result.stdout.splitlines()[-1])
    assert Path(program).is_file() and "/" in program
    assert rest[-3:-1] == ["ui", "--backend-store-uri"]
    assert Path(rest[-1].removeprefix("sqlite:///")).resolve() == (world.home / "my out" / "mlflow.db").resolve()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cr3t@host:5000")
    result = CliRunner().invoke(app, ["run", str(world.recipe), "--out", str(world.home / "my out")])
    assert result.stdout.splitlines()[-1] == "http://***@host:5000"


@pytest.mark.parametrize(
    ("package", "stage", "setting"),
    [
        ("pyspark", "mine", "mining.engine=spark"),
        ("implicit", "teach", "teachers.ials={}"),
        ("vector_quantize_pytorch", "rank", "rank.semantic_ids.method=rqvae"),
        ("vector_quantize_pytorch", "export", "export.semantic_ids.method=rqvae"),
    ],
)
def test_a_package_that_a_stage_lacks_is_missed_before_any_is_run(
    world: World, monkeypatch: pytest.MonkeyPatch, package: str, stage: str, setting: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    out = world.home / "out"
    code, said = world.command(stage, out, setting)
    assert code == 2 and setting.removesuffix("={}") in said and package.replace("_", "-") in said
    assert "pip install" in said and not (out / "data").exists()


def test_codes_to_go_on_from_are_missed_before_anything_is_run_or_removed(world: World) -> None:
    out = world.home / "out"
    assert world.command("validate", out)[0] == 0
    nowhere = "export.continue_ids=nowhere/semantic_ids.parquet"
    assert world.command("validate", out, nowhere)[0] == 0  # which does not read them
    code, said = world.command("export", out, nowhere)
    assert code == 2 and "export.continue_ids: nowhere/semantic_ids.parquet: no such file" in said
    assert (out / "data").exists() and not (out / "split").exists()


def test_a_package_is_not_missed_by_a_stage_that_does_without(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    assert world.command("validate", world.home / "out", "mining.engine=spark")[0] == 0


def test_how_mining_is_done_makes_no_stage_anew(world: World) -> None:
    how = ("mining.threads=1", "mining.partition_events=1000", "mining.engine=spark")
    assert world.fingerprints(*how) == world.fingerprints()


def test_one_fold_a_seed_runs_other_stages_and_leaves_those_that_are_done_as_they_are(world: World) -> None:
    folds = ("split.protocol=folds", "split.folds=2", "seeds=[4,2,7]")
    every, one = world.fingerprints(*folds), world.fingerprints(*folds, "split.one_fold_a_seed=true")
    assert {name.rpartition("/")[0] for name in one} - {""} == {"seed-4/fold-0", "seed-2/fold-1", "seed-7/fold-0"}
    assert set(one) < set(every)
    assert {name for name in one if one[name] != every[name]} == {"report"}
    recipe = load_recipe(world.recipe, [*folds, "split.one_fold_a_seed=true"])
    write_json(recipe.model_dump(mode="json"), world.home / "recipe.json")
    for part in ("seed-4/fold-0", "seed-4/fold-1", "seed-2/fold-1"):
        (world.home / part).mkdir(parents=True)
    shown = [str(path.relative_to(world.home)) for path in RunFolder(world.home).parts]
    assert shown == ["seed-4/fold-0", "seed-2/fold-1"]
    code, said = world.command("validate", world.home / "out", "split.one_fold_a_seed=true")
    assert code == 2 and "one_fold_a_seed is of protocol 'folds'" in said


def test_every_stage_depends_on_the_code_that_trains_and_saves(world: World) -> None:
    """What every trained thing passes through counts as part of each stage's code: change it, and all run again."""
    recipe = load_recipe(world.recipe)
    inputs = flow.input_fingerprint(recipe.data)
    found = module.stages(recipe, inputs=inputs, out=world.home, tracker=SimpleNamespace(), crew=Crew(recipe))
    shared = ("checkpoint", "contracts", "training", "world")
    imported = {
        line.split(".")[1].split()[0]
        for module in shared
        for path in _sources(module)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("from recdistill.")
    }
    assert imported - {"errors", "progress", "resources", "settings"} <= set(shared)
    assert all(set(shared) <= set(stage.code) for stage in found)


def _sources(module: str) -> list[Path]:
    place = Path(flow.__file__).parent / module
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def test_sync_of_what_is_no_run_folder_is_a_users_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["sync", str(tmp_path / "tyop")])
    assert result.exit_code == 2 and "no run folder" in result.stderr


def test_figures_go_as_soon_as_they_are_out_of_date(world: World) -> None:
    out = world.home / "out"
    assert world.command("validate", out)[0] == 0
    recipe = load_recipe(world.recipe)
    found = module.stages(
        recipe, inputs=flow.input_fingerprint(recipe.data), out=out, tracker=SimpleNamespace(), crew=Crew(recipe)
    )
    runner = Runner(out, lambda line: None)
    runner.plan(found)
    (out / "report").mkdir()  # as if the report had been made of these
    (out / "report" / "_stage.json").write_text(json.dumps({"fingerprint": runner.fingerprints["report"], "files": {}}))
    for name in ("metrics.json", "report.html"):
        (out / name).write_text("{}")
    assert world.command("validate", out)[0] == 0
    assert (out / "metrics.json").exists() and (out / "report.html").exists()
    assert world.command("validate", out, "seeds=[1]")[0] == 0
    assert not (out / "metrics.json").exists() and not (out / "report.html").exists()


def test_a_stage_that_the_recipe_leaves_out_is_a_users_mistake(world: World) -> None:
    code, said = world.command("pair", world.home / "out")
    assert code == 2 and "leaves the stage 'pair' out" in said and "'pairs={}'" in said
    assert not (world.home / "out").exists()


def test_pairs_are_a_stage_of_their_own_that_changes_no_other(world: World) -> None:
    without, asked = world.fingerprints(), world.fingerprints("pairs={}")
    assert "seed-0/time/pair" not in without
    changed = {folder for folder in asked if asked[folder] != without.get(folder)}
    assert changed == {"seed-0/time/pair", "report"}
    other = world.fingerprints("pairs={same_tag: null}")
    assert {folder for folder in asked if asked[folder] != other[folder]} == {"seed-0/time/pair", "report"}


def test_pairs_without_teachers_do_not_wait_for_them(world: World) -> None:
    pairs = "pairs={teacher_space: null, id_cluster: null}"
    one, other = (world.fingerprints(pairs, f"teachers.id.dim={dim}") for dim in (16, 32))
    assert one["seed-0/time/teach"] != other["seed-0/time/teach"]
    assert one["seed-0/time/pair"] == other["seed-0/time/pair"]


def test_queries_belong_to_the_data(world: World) -> None:
    (world.home / "data" / "q.csv").write_text("q,item,ts\nshoes,i1,1600000000\n")
    section = "data.queries={path: q.csv, columns: {query: q, item: item, timestamp: ts}}"
    before, after = world.fingerprints(), world.fingerprints(section)
    assert before["data"] != after["data"]
    assert world.command("validate", world.home / "out", section)[0] == 0
    assert (world.home / "out" / "data" / "queries.parquet").exists()
    (world.home / "data" / "q.csv").write_text("q,item,ts\nshoes,i2,1600000000\n")
    assert world.fingerprints(section)["data"] != after["data"]


def test_moved_data_run_nothing_again(world: World) -> None:
    before = world.fingerprints()
    (world.home / "data").rename(world.home / "elsewhere")
    assert world.fingerprints(f"data.root={world.home / 'elsewhere'}") == before
    assert world.fingerprints("data.root=null", f"data.interactions.path={world.home / 'elsewhere' / 'raw.csv'}") == (
        before
    )
    (world.home / "elsewhere" / "raw.csv").rename(world.home / "elsewhere" / "raw.tsv")  # then read by tabs
    assert world.fingerprints(f"data.root={world.home / 'elsewhere'}", "data.interactions.path=raw.tsv") != before


def test_a_media_folder_is_named_in_the_media_table_so_its_place_counts(world: World) -> None:
    for name in ("a", "b"):
        (world.home / "data" / name).mkdir()
        (world.home / "data" / name / "i1.jpg").write_bytes(b"x")
    one, other = (world.fingerprints(f"data.images.folder={name}") for name in ("a", "b"))
    assert one["data"] != other["data"]


def test_an_edited_contract_runs_validate_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.fingerprints()
    contracts = world.home / "contracts"
    shutil.copytree(resources.data_contracts(), contracts)
    monkeypatch.setattr(module, "data_contracts", lambda: contracts)
    assert world.fingerprints() == before
    with (contracts / "items.yaml").open("a") as file:
        file.write("\n# edited\n")
    after = world.fingerprints()
    assert after["data"] != before["data"] and after["content"] != before["content"]


def test_an_encoder_replaced_in_place_runs_encode_again(world: World) -> None:
    import numpy as np

    tower = world.home / "tower"
    tower.mkdir()
    save_file({"a": np.zeros(3, np.float32)}, tower / "model.safetensors")
    before = world.fingerprints(f"encoders.text.name={tower}")
    assert world.fingerprints(f"encoders.text.name={tower}") == before
    save_file({"a": np.ones(3, np.float32)}, tower / "model.safetensors")
    after = world.fingerprints(f"encoders.text.name={tower}")
    assert after["content"] != before["content"] and after["data"] == before["data"]
    assert world.fingerprints(f"encoders.text.name={tower}", f"encoders.cache={world.home / 'cache'}") == after


def test_a_fuser_replaced_in_place_runs_distill_again(world: World) -> None:
    import numpy as np

    decoder = world.home / "decoder"
    decoder.mkdir()
    settings = ("student.kind=fusion", f"student.fuser={decoder}")
    save_file({"a": np.zeros(3, np.float32)}, decoder / "model.safetensors")
    before = world.fingerprints(*settings)
    assert world.fingerprints(*settings) == before
    save_file({"a": np.ones(3, np.float32)}, decoder / "model.safetensors")
    after = world.fingerprints(*settings)
    changed = {name for name in before if after[name] != before[name]}
    assert any(name.endswith("/distill") for name in changed)
    assert not any(name in ("data", "content", "split") or name.endswith(("/teach", "/mine")) for name in changed)


def test_the_fold_that_the_exported_student_is_of_is_said(world: World) -> None:
    folds = load_recipe(world.recipe, ["split.protocol=folds", "split.folds=3"])
    (said,) = remarks(folds, "export", world.home)
    assert "fold-0 of 3" in said
    assert remarks(load_recipe(world.recipe), "export", world.home) == []


def test_what_stands_against_lifetime_proxies_is_said(world: World, tmp_path: Path) -> None:
    lifetime = {
        "lt7": {"computed": True, "proxies": True, "caution": "the log does not show that pleasing brings users back"},
        "lt30": {"computed": False, "reason": "the log spans 20 days"},
        "observed": {"users": 3},
    }
    (tmp_path / "rank.json").write_text(json.dumps({"lifetime": lifetime}), encoding="utf-8")
    assert remarks(load_recipe(world.recipe), "rank", tmp_path) == [
        "rank: LT7 proxies: the log does not show that pleasing brings users back",
        "rank: LT30 proxies are left out: the log spans 20 days",
    ]
