"""The whole flow on a tiny planted world: what a run leaves, what a second run skips, and a run killed with SIGKILL."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from recdistill.cli import app
from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.contracts.validate import validate

RECIPE = Path(__file__).parents[1] / "experiments" / "recipes" / "smoke.yaml"
SUBJECTS = {
    "student", "content_student", "pretrained_student", "raw_content", "ridge", "kernel_ridge", "ease",
    "id_teacher", "sequence_teacher", "popularity",
}  # fmt: skip
GROUPS = {"none", "random", "raw_content", "kernel_ridge", "id_teacher", "student", "raw_content+student"}

pytestmark = pytest.mark.slow


def run(out: Path, *overrides: str) -> str:
    # MLflow's own set_tracking_uri, called by other tests, leaves the address in this process's environment.
    result = CliRunner().invoke(
        app, ["run", str(RECIPE), *overrides, "--out", str(out)], env={"MLFLOW_TRACKING_URI": None}
    )
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("flow") / "run"
    run(out)
    return out


def test_metrics_cover_subjects_benchmarks_and_splits(whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    keys = [key.split("/") for key in metrics]
    assert all(len(key) == 4 for key in keys)
    assert {subject for subject, benchmark, *_ in keys if benchmark == "seq2item_vanilla"} >= SUBJECTS
    assert {subject for subject, benchmark, *_ in keys if benchmark == "ranker"} == GROUPS
    benchmarks = {benchmark for _, benchmark, *_ in keys}
    assert benchmarks >= {
        "seq2item_vanilla",
        "seq2item_filtered",
        "copair_i2i",
        "gid_i2i",
        "content_i2i",
        "ranker",
        "lt",
    }
    users = {"light_users", "medium_users", "heavy_users"}
    assert {split for _, benchmark, split, _ in keys if benchmark != "ranker"} == {"all", "warm", "cold"}
    # Which thirds of the users there are, ties decide; the heaviest is never empty unless all are alike.
    assert {split for _, benchmark, split, _ in keys if benchmark == "ranker"} - users == {"all", "warm", "cold"}
    for figure in metrics.values():
        assert figure.keys() >= {"value", "sd", "n"} and figure["n"] == 1 and np.isfinite(figure["value"])
    recalls = [metrics[f"student/seq2item_vanilla/all/recall_at_{k}"]["value"] for k in (1, 10, 25, 50, 100)]
    assert recalls == sorted(recalls) and recalls[0] >= 0 and recalls[-1] <= 1


def test_exports_cover_the_catalogue_and_satisfy_their_contracts(whole):
    catalogue = pd.read_parquet(whole / "data" / "items.parquet").item_id
    embeddings = EmbeddingTable.read(whole / "export" / "item_embeddings.parquet")
    assert set(embeddings.ids) == set(catalogue)
    for table in ("item_embeddings", "semantic_ids", "match_features"):
        validate(whole / "export" / f"{table}.parquet", table)
    assert (whole / "report.html").stat().st_size > 50_000 and (whole / "mlflow.db").exists()


def test_the_exported_student_embeds_new_items_in_another_process(whole):
    code = (
        "import recdistill, sys, numpy as np; from transformers import AutoModel\n"
        "student = AutoModel.from_pretrained(sys.argv[1])\n"
        "items = [{'text': {'title': 'a new one'}}, {'structured': {'genre': ['g1']}}]\n"
        "vectors = student.encode(items)\n"
        "assert vectors.dtype == np.float32 and len(vectors) == 2 and np.isfinite(vectors).all()\n"
        "assert np.allclose(student.encode(items[:1])[0], vectors[0], atol=1e-5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole / "export" / "student")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_second_run_skips_everything(whole):
    said = run(whole)
    assert "done in" not in said and said.count("unchanged, skipped") >= 10


def test_a_changed_setting_runs_just_what_depends_on_it(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    said = run(tmp_path / "run", "mining.length=8")
    ran = {line.split(":")[0].rsplit("/", 1)[-1] for line in said.splitlines() if "done in" in line}
    assert ran == {"mine", "distill", "evaluate", "rank", "export", "report"}


def test_teams_are_given_reactions_where_the_rankers_are(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    said = run(tmp_path / "run", "rank.labels.min_negative_share=1")
    ran = {line.split(":")[0].rsplit("/", 1)[-1] for line in said.splitlines() if "done in" in line}
    assert ran == {"rank", "export", "report"}
    for out, negatives in ((whole, "logged"), (tmp_path / "run", "sampled")):
        told = [
            json.loads(path.read_text())
            for path in (out / "export" / "export.json", *out.glob("seed-*/*/rank/rank.json"))
        ]
        assert {one["negatives"] for one in told} == {negatives}
        assert ("reaction_1" in told[0]["match_columns"]) == (negatives == "logged")


def test_distillation_goes_on_from_what_pretraining_left(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    said = run(tmp_path / "run", "distill.start=pretrained", "distill.trials=[{}]", "distill.steps=1")
    ran = {line.split(":")[0].rsplit("/", 1)[-1] for line in said.splitlines() if "done in" in line}
    assert ran == {"distill", "evaluate", "rank", "export", "report"}
    tables = [
        EmbeddingTable.read(next((tmp_path / "run").glob(f"seed-0/*/{stage}/final/{name}.parquet"))).vectors
        for stage, name in (("pretrain", "pretrained_student"), ("distill", "student"), ("distill", "content_student"))
    ]
    # Its learned columns; content behind them is weighed by validation, which pretraining has not.
    learned = [table[:, :128] / np.linalg.norm(table[:, :128], axis=1, keepdims=True) for table in tables]
    cosine = [(learned[0] * other).sum(1).mean() for other in learned[1:]]
    assert cosine[0] > 0.99 > cosine[1]  # one step away from where it began; the content student began afresh


def test_an_export_of_other_settings_is_not_left_lying(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    result = CliRunner().invoke(
        app,
        ["teach", str(RECIPE), "distill.steps=7", "--out", str(tmp_path / "run")],
        env={"MLFLOW_TRACKING_URI": None},
    )
    assert result.exit_code == 0, result.output
    assert "export: of other settings or data, removed" in result.stderr
    assert not (tmp_path / "run" / "export" / "student").exists()
    assert (tmp_path / "run" / "seed-0" / "time" / "distill" / "distill.json").exists()


def test_a_model_that_is_not_exported_is_not_tracked_either(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    said = run(tmp_path / "run", "export.mlflow_model=false")
    assert "MLflow" not in said
    assert not (tmp_path / "run" / "tracking" / "rejected.jsonl").exists()


@pytest.mark.parametrize("stage", ["teach", "distill"])
def test_killed_and_run_again_gives_the_same_metrics(whole, tmp_path, stage):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    home = next(out.glob(f"seed-*/*/{stage}"))
    for later in ("teach", "distill", "evaluate", "rank"):
        if later != "teach" or stage == "teach":
            shutil.rmtree(home.parent / later)
    (out / "metrics.json").unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "recdistill", "run", str(RECIPE), "--out", str(out)], stderr=subprocess.PIPE
    )
    while not list(home.glob("selection/*.parquet")):  # its first table stands: the stage is in its midst
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "metrics.json").exists()
    run(out)
    expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, out))
    assert expected.keys() == found.keys()
    assert max(abs(expected[key]["value"] - found[key]["value"]) for key in expected) <= 1e-6


def test_a_stage_runs_with_what_it_needs_and_no_more(tmp_path):
    """Teachers need no content: a log without any has teachers all the same."""
    result = CliRunner().invoke(app, ["teach", str(RECIPE), "--out", str(tmp_path)], env={"MLFLOW_TRACKING_URI": None})
    assert result.exit_code == 0, result.output
    made = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("_stage.json")}
    assert made == {"data", "split", "seed-0/time/teach"}


def test_pair_datasets_are_made_where_the_recipe_asks(tmp_path):
    """On the planted world every dataset but those of searches and authors has pairs; the user is told of the rest."""
    result = CliRunner().invoke(
        app, ["pair", str(RECIPE), "pairs={}", "--out", str(tmp_path)], env={"MLFLOW_TRACKING_URI": None}
    )
    assert result.exit_code == 0, result.output
    made = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("_stage.json")}
    assert made == {"data", "split", "seed-0/time/teach", "seed-0/time/pair"}
    items = {"items.item_id": read_table(tmp_path / "data" / "items.parquet")["item_id"].combine_chunks()}
    summary = json.loads((tmp_path / "seed-0" / "time" / "pair" / "pairs.json").read_text())
    assert "pair dataset same_author is empty (selection and final): no tags field is named" in result.stderr
    assert result.stderr.count("is empty") == 1  # nobody named a query table
    for fit, datasets in summary.items():
        for name, of in datasets.items():
            path = tmp_path / "seed-0" / "time" / "pair" / fit / f"{name}.parquet"
            validate(path, "pair_dataset", known=items)
            assert (of["rows"] == 0) == (name in ("co_search", "query_item", "same_author")), (fit, name, of)
