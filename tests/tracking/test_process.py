"""The sender as a process, against real stores: SQLite, a server that is down, one that hangs, one that comes back."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recdistill.errors import UserError
from recdistill.tracking import Tracker, page, sync
from recdistill.tracking.sender import UID_TAG

_LOGS = 3000
_EXTRA_SECONDS = 1.0


def _log_many(run: Any, *, start: int = 0, count: int = _LOGS) -> float:
    began = time.monotonic()
    for step in range(start, start + count):
        run.log({"loss": 1.0 / (step + 1)}, step)
    return time.monotonic() - began


def _one_run(client: Any) -> Any:
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs(experiments)
    return run


def _steps(client: Any) -> list[int]:
    return [metric.step for metric in client.get_metric_history(_one_run(client).info.run_id, "loss")]


def test_default_store_in_the_run_folder(out: Path, client: Any) -> None:
    with Tracker(out, experiment="demo") as tracker:
        with tracker.run("seed-0", params={"a": 1}) as run:
            assert _log_many(run) < _EXTRA_SECONDS
        assert tracker.flush(60)
        program, *rest = shlex.split(tracker.page)
        assert Path(program).resolve() == Path(sys.executable).with_name("mlflow").resolve()
        assert rest[:-1] == ["ui", "--backend-store-uri"]
        assert Path(rest[-1].removeprefix("sqlite:///")).resolve() == (out / "mlflow.db").resolve()
    assert sorted(_steps(client)) == list(range(_LOGS))
    assert _one_run(client).info.status == "FINISHED"


def test_the_page_is_a_command_for_the_folder_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "mlflow").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert page(Path("runs/demo")) == ".venv/bin/mlflow ui --backend-store-uri sqlite:///runs/demo/mlflow.db"
    assert page(Path("runs/my demo")) == ".venv/bin/mlflow ui --backend-store-uri 'sqlite:///runs/my demo/mlflow.db'"
    (tmp_path / ".venv" / "bin" / "mlflow").unlink()
    assert page(Path("runs/demo")).startswith(".venv/bin/python -m mlflow ui ")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2://ann:s3cr3t@host/db")
    assert page(Path("runs/demo")).endswith("--backend-store-uri 'postgresql+psycopg2://***@host/db'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:s3cr3t@host?token=abc")
    assert page(Path("runs/demo")) == "https://***@host?token=***"


@pytest.mark.parametrize("sign", "?#%")
def test_a_folder_that_cannot_stand_in_an_address_is_refused(tmp_path: Path, sign: str) -> None:
    with pytest.raises(UserError, match="whose path has " + ("\\?" if sign == "?" else sign)):
        Tracker(tmp_path / f"a{sign}41b", experiment="demo")
    Tracker(tmp_path / f"a{sign}41b", experiment="demo", uri="http://host:5000")


def test_there_is_nothing_to_sync_in_what_is_no_run_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "tyop"):
        with pytest.raises(UserError, match="no run folder"):
            sync(folder)
    assert list(tmp_path.iterdir()) == []


def test_kill_9_of_the_training_still_sends_what_it_logged(out: Path, client: Any) -> None:
    code = """
import sys, time
from pathlib import Path
from recdistill.tracking import Tracker
run = Tracker(Path(sys.argv[1]), experiment="demo").run("seed-0")
for step in range(500):
    run.log({"loss": 1.0}, step)
print("logged", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if _one_run(client).info.status == "KILLED":
                break
        except ValueError:
            pass
        time.sleep(0.2)
    assert _one_run(client).info.status == "KILLED"
    assert sorted(_steps(client)) == list(range(500))


@contextmanager
def _hanging_server() -> Iterator[int]:
    """A socket that takes connections and never answers."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield server.getsockname()[1]


def test_a_hanging_server_costs_the_training_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _hanging_server() as port:
        tracker = Tracker(tmp_path, experiment="demo", uri=f"http://ann:s3cr3t@127.0.0.1:{port}")
        run = tracker.run("seed-0")
        assert _log_many(run) < _EXTRA_SECONDS
        began = time.monotonic()
        assert not tracker.close(timeout=1)
        assert time.monotonic() - began < 4
    said = capsys.readouterr().err
    assert "Nothing is lost" in said
    assert "s3cr3t" not in said
    for path in (tmp_path / "tracking").iterdir():
        assert b"s3cr3t" not in path.read_bytes(), path


def test_a_dead_server_is_given_up_after_one_attempt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _hanging_server() as port:
        pass
    tracker = Tracker(tmp_path, experiment="demo", uri=f"http://ann:s3cr3t@127.0.0.1:{port}")
    run = tracker.run("seed-0")
    assert _log_many(run, count=100) < _EXTRA_SECONDS
    assert not tracker.close(timeout=60)
    said = capsys.readouterr().err
    assert "refused" in said.lower()
    assert "s3cr3t" not in said
    for path in (tmp_path / "tracking").iterdir():
        assert b"s3cr3t" not in path.read_bytes(), path


@contextmanager
def _server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                        break
                except OSError:
                    assert time.monotonic() < deadline, (folder / "server.log").read_text()
                    assert process.poll() is None, (folder / "server.log").read_text()
                    time.sleep(0.2)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_server_that_hangs_then_lives_then_stalls_then_dies_then_returns(
    tmp_path: Path, empty_database: Path
) -> None:
    from mlflow.tracking import MlflowClient

    out, folder = tmp_path / "run", tmp_path / "server"
    out.mkdir()
    folder.mkdir()
    (folder / "server.db").write_bytes(empty_database.read_bytes())
    (out / "report.html").write_text("<p>report")
    with _hanging_server() as port:
        uri = f"http://127.0.0.1:{port}"
        tracker = Tracker(out, experiment="demo", uri=uri)
        run = tracker.run("seed-0", params={"a": 1})
        run.artifact(out / "report.html")
        assert _log_many(run, start=0, count=1000) < _EXTRA_SECONDS
        assert not tracker.flush(0.5)
    with _server(folder, port) as process:
        assert tracker.flush(60)
        client = MlflowClient(tracking_uri=uri)
        assert sorted(_steps(client)) == list(range(1000))
        assert [a.path for a in client.list_artifacts(_one_run(client).info.run_id)] == ["report.html"]
        os.killpg(process.pid, signal.SIGSTOP)
        assert _log_many(run, start=1000, count=1000) < _EXTRA_SECONDS
        assert not tracker.flush(1)
        os.killpg(process.pid, signal.SIGCONT)
        assert tracker.flush(60)
        assert sorted(_steps(client)) == list(range(2000))
    assert _log_many(run, start=2000, count=1000) < _EXTRA_SECONDS
    run.finish()
    assert not tracker.close(timeout=20)
    with _server(folder, port):
        assert sync(out, uri=uri, timeout=60)
        assert sorted(_steps(client)) == list(range(3000))
        assert _one_run(client).info.status == "FINISHED"
        assert UID_TAG in _one_run(client).data.tags
