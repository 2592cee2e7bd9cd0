"""The tracker's records in a real SQLite store, delivered in this process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recdistill.errors import UserError
from recdistill.tracking import DATA_FINGERPRINT, Tracker
from recdistill.tracking.process import SenderProcess, Store
from recdistill.tracking.sender import UID_TAG, Sender

Deliver = Callable[[], bool]


@pytest.fixture(autouse=True)
def _no_sender_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests deliver by hand; test_process.py has the process."""
    monkeypatch.setattr(SenderProcess, "start", lambda self: None)


def _runs(client: Any) -> dict[str, Any]:
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs(experiments)
    assert len({run.data.tags[UID_TAG] for run in runs}) == len(runs), "a run was made twice"
    return {run.info.run_name: run for run in runs if "recdistill.superseded_by" not in run.data.tags}


def _history(client: Any, run: Any, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key))


def test_a_whole_run(out: Path, client: Any, deliver: Deliver) -> None:
    (out / "report.html").write_text("<p>report")
    (out / "model").mkdir()
    (out / "model" / "config.json").write_text("{}")
    tracker = Tracker(out, experiment="demo")
    parent = tracker.run(
        "seed-0", params={"distill": {"steps": 4}, "hf_token": "x"}, tags={DATA_FINGERPRINT: "abc", "long": "y" * 9000}
    )
    parent.dataset(
        "interactions", "sha256:0123456789abcdef0123456789abcdef0123456789", 1234, "https://me:pw@host/x.csv"
    )
    with tracker.run("seed-0/distill", parent="seed-0", params={"lr": 1e-3}) as child:
        for step in range(4):
            child.log({"loss": 4.0 - step, "sequence_loss": 1.0 + step, "temperature": 0.1}, step)
        child.log({"validation": 0.5}, 2)
        child.log({"validation": 0.25}, 4)
        child.artifact(out / "model", "models")
    parent.metrics(
        {
            "student/seq2item_vanilla/all/recall_at_10": {"value": 0.094, "sd": 0.0, "n": 1},
            "raw+student/ranker/all/auc": 0.8,
        }
    )
    parent.artifact(out / "report.html")
    parent.finish()
    assert deliver()

    runs = _runs(client)
    top, nested = runs["seed-0"], runs["seed-0/distill"]
    assert top.data.params == {"distill.steps": "4"}
    assert top.data.tags[DATA_FINGERPRINT] == "abc"
    assert len(top.data.tags["long"]) == 5000
    assert nested.data.tags["mlflow.parentRunId"] == top.info.run_id
    assert (top.info.status, nested.info.status) == ("FINISHED", "FINISHED")
    assert _history(client, nested, "loss") == [(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)]
    assert top.data.metrics == {
        "student/seq2item_vanilla/all/recall_at_10": 0.094,
        "raw_plus_student/ranker/all/auc": 0.8,
        "best/distill/loss": 1.0,
        "best/distill/sequence_loss": 1.0,
        "best/distill/validation": 0.5,
    }
    (dataset,) = [given.dataset for given in top.inputs.dataset_inputs]
    assert (dataset.name, json.loads(dataset.profile), json.loads(dataset.source)) == (
        "interactions",
        {"num_rows": 1234},
        {"uri": "https://***@host/x.csv"},
    )
    assert [a.path for a in client.list_artifacts(top.info.run_id)] == ["report.html"]
    assert [a.path for a in client.list_artifacts(nested.info.run_id, "models")] == ["models/config.json"]
    assert sorted(p.name for p in (out / "mlartifacts").iterdir()) == sorted([top.info.run_id, nested.info.run_id])


def test_sending_again_from_the_start_adds_nothing(out: Path, client: Any, deliver: Deliver) -> None:
    tracker = Tracker(out, experiment="demo")
    with tracker.run("seed-0", params={"a": 1}) as run:
        for step in range(50):
            run.log({"loss": 1.0 / (step + 1), "odd": math.nan if step % 2 else math.inf}, step)
        run.dataset("items", "d", 3, "items.csv")
    assert deliver()
    before = _runs(client)["seed-0"]
    (out / "tracking" / "sent-local.json").unlink()
    assert deliver()
    after = _runs(client)["seed-0"]
    assert after.info.run_id == before.info.run_id
    assert len(client.get_metric_history(after.info.run_id, "loss")) == 50
    assert len(client.get_metric_history(after.info.run_id, "odd")) == 50
    assert len(after.inputs.dataset_inputs) == 1


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(out: Path, client: Any, deliver: Deliver) -> None:
    for start, stop in ((0, 6), (4, 10)):
        tracker = Tracker(out, experiment="demo")
        tracker.run("seed-0", params={"a": 1})
        run = tracker.run("seed-0/teach", parent="seed-0", params={"b": 2})
        for step in range(start, stop):
            run.log({"loss": 1.0 / (step + 1)}, step)
        assert deliver()
    runs = _runs(client)
    assert set(runs) == {"seed-0", "seed-0/teach"}
    assert _history(client, runs["seed-0/teach"], "loss") == [(step, 1.0 / (step + 1)) for step in range(10)]
    assert runs["seed-0/teach"].info.status == "RUNNING"


def test_changed_settings_begin_a_successor_and_nested_runs_move_over(out: Path, client: Any, deliver: Deliver) -> None:
    for steps in (100, 200):
        tracker = Tracker(out, experiment="demo")
        with tracker.run("seed-0", params={"distill": {"steps": steps}}):
            if steps == 100:
                tracker.run("seed-0/teach", parent="seed-0", params={"dim": 8}).finish()
            with tracker.run("seed-0/distill", parent="seed-0", params={"steps": steps}) as run:
                run.log({"loss": float(steps)}, 0)
        assert deliver()
    runs = _runs(client)
    assert set(runs) == {"seed-0", "seed-0/teach", "seed-0/distill"}
    assert runs["seed-0"].data.params == {"distill.steps": "200"}
    assert _history(client, runs["seed-0/distill"], "loss") == [(0, 200.0)]
    for nested in ("seed-0/teach", "seed-0/distill"):
        assert runs[nested].data.tags["mlflow.parentRunId"] == runs["seed-0"].info.run_id
    everything = client.search_runs([runs["seed-0"].info.experiment_id])
    old = [run for run in everything if "recdistill.superseded_by" in run.data.tags]
    assert sorted(run.info.run_name for run in old) == ["seed-0", "seed-0/distill"]
    assert {run.data.tags["recdistill.superseded_by"] for run in old} == {
        runs["seed-0"].data.tags[UID_TAG],
        runs["seed-0/distill"].data.tags[UID_TAG],
    }


def test_other_data_begin_a_successor_too(out: Path, client: Any, deliver: Deliver) -> None:
    for data in ("first", "second"):
        Tracker(out, experiment="demo").run("seed-0", tags={DATA_FINGERPRINT: data, "code_version": "1"})
    Tracker(out, experiment="demo").run("seed-0", tags={DATA_FINGERPRINT: "second", "code_version": "2"})
    assert deliver()
    (run,) = _runs(client).values()
    assert (run.data.tags[DATA_FINGERPRINT], run.data.tags["code_version"]) == ("second", "2")
    assert len(client.search_runs([run.info.experiment_id])) == 2


def test_a_run_named_again_without_settings_keeps_them(out: Path, client: Any, deliver: Deliver) -> None:
    for _ in range(2):
        tracker = Tracker(out, experiment="demo")
        tracker.run("seed-0", params={"a": 1}, tags={DATA_FINGERPRINT: "x"})
        tracker.run("seed-0/teach", parent="seed-0", params={"b": 1})
        tracker.run("seed-0").metrics({"student/lt/all/r2": 0.5})
    assert deliver()
    runs = _runs(client)
    assert set(runs) == {"seed-0", "seed-0/teach"}
    assert len(client.search_runs([runs["seed-0"].info.experiment_id])) == 2
    assert runs["seed-0"].data.params == {"a": "1"}


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_closing_finishes_what_is_open(
    out: Path, client: Any, deliver: Deliver, error: type[BaseException] | None, status: str
) -> None:
    try:
        with Tracker(out, experiment="demo") as tracker:
            tracker.run("seed-0", params={"a": 1})
            tracker.run("seed-0/teach", parent="seed-0").finish()
            tracker.run("seed-0/mine", parent="seed-0")
            if error is not None:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    assert deliver()
    states = {name: run.info.status for name, run in _runs(client).items()}
    assert states == {"seed-0": status, "seed-0/teach": "FINISHED", "seed-0/mine": status}


def test_runs_that_are_only_looked_at_leave_no_trace(out: Path, deliver: Deliver) -> None:
    def look() -> Tracker:
        tracker = Tracker(out, experiment="demo")
        tracker.run("seed-0", params={"a": 1}, tags={DATA_FINGERPRINT: "x"})
        tracker.run("seed-0/teach", parent="seed-0", params={"b": 1})
        return tracker

    look().close()
    assert deliver()
    journals = sorted((out / "tracking").glob("journal-*"))
    assert len(journals) == 1
    again = look()
    assert not again._sender.pending()
    assert again.close(timeout=0)
    assert sorted((out / "tracking").glob("journal-*")) == journals
    look().run("seed-0", tags={"code_version": "2"})
    assert len(sorted((out / "tracking").glob("journal-*"))) == 2


def test_more_than_one_batch_of_everything(out: Path, client: Any, deliver: Deliver) -> None:
    tracker = Tracker(out, experiment="demo")
    run = tracker.run("seed-0", params={f"p{n}": n for n in range(250)}, tags={f"t{n}": n for n in range(150)})
    for step in range(1100):
        run.log({"loss": float(step), "more": 0.0}, step)
    assert deliver()
    sent = _runs(client)["seed-0"]
    assert len(sent.data.params) == 250
    assert len(client.get_metric_history(sent.info.run_id, "loss")) == 1100


def test_one_refused_record_does_not_hold_up_the_others(out: Path, client: Any, deliver: Deliver) -> None:
    tracker = Tracker(out, experiment="demo")
    run = tracker.run("seed-0")
    values = {f"m{n}": 1.0 for n in range(20)} | {"bad@name": 1.0}
    tracker._write({"op": "metrics", "run": run._run.uid, "step": 0, "time": 5, "values": values})
    run.artifact(out / "gone.html")
    run.finish()
    assert deliver()
    sent = _runs(client)["seed-0"]
    assert set(sent.data.metrics) == {f"m{n}" for n in range(20)}
    assert sent.info.status == "FINISHED"
    refused = [json.loads(line) for line in (out / "tracking" / "rejected.jsonl").read_text().splitlines()]
    assert [list(line["record"]) for line in refused] == [["run", "metrics"], ["op", "run", "time", "path", "folder"]]


def test_an_artifact_store_out_of_reach_does_not_hold_up_metrics(out: Path, client: Any, deliver: Deliver) -> None:
    (out / "a.txt").write_text("a")
    (out / "mlartifacts").write_text("in the way")
    tracker = Tracker(out, experiment="demo")
    run = tracker.run("seed-0")
    run.artifact(out / "a.txt")
    run.log({"loss": 1.0}, 0)
    assert not deliver()
    assert _runs(client)["seed-0"].data.metrics == {"loss": 1.0}
    (out / "mlartifacts").unlink()
    assert deliver()
    assert [a.path for a in client.list_artifacts(_runs(client)["seed-0"].info.run_id)] == ["a.txt"]


def test_a_database_that_was_replaced_gets_everything_again(
    out: Path, client: Any, deliver: Deliver, empty_database: Path, tmp_path: Path
) -> None:
    with Tracker(out, experiment="demo").run("seed-0", params={"a": 1}) as run:
        run.log({"loss": 1.0}, 0)
    assert deliver()
    other = tmp_path / "other.db"
    other.write_bytes(empty_database.read_bytes())
    (out / "tracking" / "sent-x.json").write_bytes((out / "tracking" / "sent-local.json").read_bytes())
    with Tracker(out, experiment="demo").run("seed-0", params={"a": 1}) as run:
        run.log({"loss": 0.5}, 1)
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{other}"
    assert Sender(out=out, store="x", uri=uri, local=False, journal=None).attempt()
    moved = MlflowClient(tracking_uri=uri)
    assert _history(moved, _runs(moved)["seed-0"], "loss") == [(0, 1.0), (1, 0.5)]


def test_a_deleted_experiment_is_said_and_waited_for(out: Path, client: Any, deliver: Deliver) -> None:
    experiment = client.create_experiment("demo")
    client.delete_experiment(experiment)
    Tracker(out, experiment="demo").run("seed-0").log({"loss": 1.0}, 0)
    assert not deliver()
    assert "'demo' is deleted" in json.loads((out / "tracking" / "sent-local.json").read_text())["error"]
    client.restore_experiment(experiment)
    assert deliver()
    assert _runs(client)["seed-0"].data.metrics == {"loss": 1.0}


def test_a_killed_process_leaves_killed_runs(out: Path, client: Any, deliver: Deliver) -> None:
    tracker = Tracker(out, experiment="demo")
    tracker.run("seed-0")
    tracker.run("seed-0/teach", parent="seed-0").finish()
    tracker.run("seed-0/distill", parent="seed-0")
    journal = next((out / "tracking").glob("journal-*.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"op": "metr')
    uri = f"sqlite:///{out / 'mlflow.db'}"
    sender = Sender(out=out, store="local", uri=uri, local=True, journal=journal.name)
    sender.mark_killed()
    assert sender.attempt()
    status = {name: run.info.status for name, run in _runs(client).items()}
    assert status == {"seed-0": "KILLED", "seed-0/teach": "FINISHED", "seed-0/distill": "KILLED"}
    Tracker(out, experiment="demo").run("seed-0")
    assert deliver()
    assert _runs(client)["seed-0"].info.status == "RUNNING"


def test_an_exception_in_a_stage_makes_its_run_failed(out: Path, client: Any, deliver: Deliver) -> None:
    tracker = Tracker(out, experiment="demo")
    with pytest.raises(ZeroDivisionError), tracker.run("seed-0"):
        raise ZeroDivisionError
    assert deliver()
    assert _runs(client)["seed-0"].info.status == "FAILED"


def test_a_journal_that_cannot_be_written_warns_once_and_goes_on(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "tracking").write_text("in the way of the folder")
    tracker = Tracker(out, experiment="demo")
    run = tracker.run("seed-0")
    for step in range(5):
        run.log({"loss": 1.0}, step)
    assert capsys.readouterr().err.count("warning: tracking is off") == 1


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_a_folder_store_is_a_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="remedy: unset MLFLOW_TRACKING_URI"):
        Tracker(tmp_path, experiment="demo")


def test_the_store_is_chosen_as_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Store.choose(tmp_path, None).uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cr3t@host:5000")
    store = Store.choose(tmp_path, None)
    assert store.uri == "http://ann:s3cr3t@host:5000"
    assert "s3cr3t" not in store.name
    assert Tracker(tmp_path, experiment="demo").page == "http://***@host:5000"
