"""Sends a run folder's journal to MLflow: a program of its own, which ``Tracker`` starts beside a training.

Its own process, because importing MLflow and opening its store cost seconds of the interpreter lock, and because
bounded time-outs are environment variables there. It is run as a script and imports nothing of recdistill, so that
it stays small (no torch). What is sent may be sent again without harm, so a kill between sending and noting
it is no matter: a run is looked up by its uid before it is created, MLflow's stores drop a metric
record equal in key, step, time and value, and the other records overwrite.

The command on stdin, one a line: ``flush <n>`` sends now and notes ``n`` as served. ``Tracker`` ends the program with
SIGTERM; when stdin ends instead, the training was killed: its open runs are marked KILLED, the rest is sent for
``--grace`` seconds at most, then the program ends.

``DIR/tracking/sent-<store>.json`` holds, for each store: run ids, byte offsets into the journals, artifacts to try
again, the last error. It is replaced atomically, under a lock file.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import select
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UID_TAG = "recdistill.run"
_EVERY_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 30.0
_RECORDS_A_CHUNK = 5000
_METRICS_A_BATCH = 1000
_ENTRIES_A_BATCH = 100
_FAILED_UPLOADS = 2
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
_UNKNOWN = "RESOURCE_DOES_NOT_EXIST"


class StoreForgot(Exception):
    """The store no longer knows a run that was sent to it (its database was replaced)."""


class Delivery:
    """Turns journal records into calls of one MLflow store.

    Args:
        out: run folder.
        client: an ``MlflowClient``.
        state: as described above; changed in place.
        artifacts: where a new experiment's artifacts go; None leaves it to the server.
    """

    def __init__(self, out: Path, client: Any, state: dict[str, Any], artifacts: Path | None) -> None:
        self._out, self._client, self._state, self._artifacts = out, client, state, artifacts
        self._metrics: dict[str, list[Any]] = {}

    def send(self, records: list[dict[str, Any]]) -> None:
        """Send records in order; each run's metrics are gathered into batches."""
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "run": self._run,
            "metrics": self._gather,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "tags": lambda record: self._log(self._id(record["run"]), tags=record["values"]),
            "parent": self._parent,
            "finish": self._finish,
        }
        for record in records:
            if record["op"] != "metrics":
                self._flush(record["run"])
            handler = handlers.get(record["op"])
            if handler is not None and (record["op"] == "run" or record["run"] in self._state["runs"]):
                handler(record)
        for uid in list(self._metrics):
            self._flush(uid)

    def upload(self, save: Callable[[], None]) -> None:
        """Upload the artifacts that wait, after all else: their store may be slow or away while the other answers."""
        waiting: list[dict[str, Any]] = self._state["later"]
        failures = 0
        for record in list(waiting):
            waiting.remove(record)
            path = self._out / record["path"]
            upload = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            try:
                upload(self._id(record["run"]), str(path), record["folder"] or None)
            except Exception as error:
                if refused(error) or not path.exists():
                    self._reject(record, error)
                else:
                    waiting.append(record)
                    self._state["error"] = f"artifact {record['path']}: {why(error)}"
                    failures += 1
            save()
            if failures == _FAILED_UPLOADS:
                return

    def _id(self, uid: str) -> str:
        run_id: str = self._state["runs"][uid]
        return run_id

    def _run(self, record: dict[str, Any]) -> None:
        uid, parent = record["run"], self._state["runs"].get(record["parent"])
        new = False
        if uid not in self._state["runs"]:
            experiment = self._experiment(record["experiment"])
            found = self._client.search_runs(
                [experiment], f"tags.`{UID_TAG}` = '{uid}'", run_view_type=3, max_results=1
            )
            new = not found
            if found:
                self._state["runs"][uid] = found[0].info.run_id
            else:
                tags = {UID_TAG: uid, **({"mlflow.parentRunId": parent} if parent else {})}
                run = self._client.create_run(experiment, start_time=record["time"], tags=tags, run_name=record["name"])
                self._state["runs"][uid] = run.info.run_id
        run_id = self._id(uid)
        tags = dict(record["tags"], **({"mlflow.parentRunId": parent} if parent else {}))
        self._log(run_id, params=record["params"], tags=tags)
        if not new:
            self._call(lambda: self._client.update_run(run_id, status="RUNNING"), record)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise RuntimeError(f"the MLflow experiment {name!r} is deleted: restore it, or give this one another name")
        if found is not None:
            return str(found.experiment_id)
        location = self._artifacts.as_uri() if self._artifacts is not None else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _gather(self, record: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        batch = self._metrics.setdefault(record["run"], [])
        batch += [Metric(key, float(value), record["time"], record["step"]) for key, value in record["values"].items()]
        if len(batch) >= _METRICS_A_BATCH:
            self._flush(record["run"])

    def _flush(self, uid: str) -> None:
        batch = self._metrics.pop(uid, [])
        for start in range(0, len(batch), _METRICS_A_BATCH):
            self._batch(self._id(uid), "metrics", batch[start : start + _METRICS_A_BATCH])

    def _log(
        self, run_id: str, *, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        from mlflow.entities import Param, RunTag

        for kind, entity, values in (("params", Param, params or {}), ("tags", RunTag, tags or {})):
            entries = [entity(key, value) for key, value in values.items()]
            for start in range(0, len(entries), _ENTRIES_A_BATCH):
                self._batch(run_id, kind, entries[start : start + _ENTRIES_A_BATCH])

    def _batch(self, run_id: str, kind: str, entries: list[Any]) -> None:
        """Send one batch; when the store refuses it, halve it until the refused entry stands alone and note that."""
        try:
            self._client.log_batch(run_id, **{kind: entries})
        except Exception as error:
            if not refused(error):
                raise forgotten(error) from error
            if len(entries) == 1:
                self._reject({"run": run_id, kind: dict(entries[0])}, error)
                return
            half = len(entries) // 2
            self._batch(run_id, kind, entries[:half])
            self._batch(run_id, kind, entries[half:])

    def _artifact(self, record: dict[str, Any]) -> None:
        if record not in self._state["later"]:
            self._state["later"].append(record)

    def _dataset(self, record: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        dataset = Dataset(
            name=record["name"][:500],
            digest=record["digest"][:36],
            source_type="local",
            source=json.dumps({"uri": record["source"]}),
            profile=json.dumps({"num_rows": record["rows"]}),
        )
        run_id = self._id(record["run"])
        self._call(lambda: self._client.log_inputs(run_id, datasets=[DatasetInput(dataset)]), record)

    def _parent(self, record: dict[str, Any]) -> None:
        parent = self._state["runs"].get(record["parent"])
        if parent is not None:
            self._log(self._id(record["run"]), tags={"mlflow.parentRunId": parent})

    def _finish(self, record: dict[str, Any]) -> None:
        run_id = self._id(record["run"])
        self._call(lambda: self._client.set_terminated(run_id, record["status"], end_time=record["time"]), record)

    def _call(self, call: Callable[[], Any], record: dict[str, Any]) -> None:
        try:
            call()
        except Exception as error:
            if not refused(error):
                raise forgotten(error) from error
            self._reject(record, error)

    def _reject(self, record: Mapping[str, Any], error: Exception) -> None:
        """Note what the store will never take, so that one bad record does not hold up the others."""
        self._state["rejected"] += 1
        with (self._out / "tracking" / "rejected.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"record": record, "reason": str(error)[:1000]}, default=str) + "\n")


def refused(error: Exception) -> bool:
    """Whether the store says that this request can never succeed."""
    return getattr(error, "error_code", "") in _REFUSED


def forgotten(error: Exception) -> Exception:
    """``StoreForgot`` when the store does not know the run, else the error itself."""
    return StoreForgot(str(error)) if getattr(error, "error_code", "") == _UNKNOWN else error


class Sender:
    """The program: reads on from where the store stands, sends, notes how far it came."""

    def __init__(self, *, out: Path, store: str, uri: str, local: bool, journal: str | None) -> None:
        self._out, self._uri, self._local, self._journal = out, uri, local, journal
        self._folder = out / "tracking"
        self._state_file = self._folder / f"sent-{store}.json"
        self._client: Any = None
        self._forgot = False

    def attempt(self, served: int | None = None) -> bool:
        """Send all there is.

        Returns:
            Whether everything was sent; if not, the state file says why.
        """
        with self._locked() as state:
            before = json.dumps(state)
            state["error"] = None
            try:
                self._connect(state)
                self._deliver(state)
            except Exception as error:
                state["error"] = why(error)
            if state["error"] is not None:
                state["error"] = self._without_credentials(state["error"])[:2000]
            if served is not None:
                state["served"], state["by"] = served, os.getpid()
            if json.dumps(state) != before:
                self._save(state)
            return state["error"] is None

    def mark_killed(self) -> None:
        """Finish the runs that the killed process left open."""
        if self._journal is None:
            return
        path = self._folder / self._journal
        lines = path.read_bytes().split(b"\n")
        open_runs: dict[str, None] = {}
        for record in parsed(lines[:-1]):
            if record["op"] == "run":
                open_runs[record["run"]] = None
            elif record["op"] == "finish":
                open_runs.pop(record["run"], None)
        with path.open("ab") as file:
            file.write(b"\n" if lines[-1] else b"")
            for uid in open_runs:
                record = {"op": "finish", "run": uid, "status": "KILLED", "time": time.time_ns() // 1_000_000}
                file.write(json.dumps(record).encode() + b"\n")

    def _connect(self, state: dict[str, Any]) -> None:
        if self._local and not (self._out / "mlflow.db").exists():
            state.update(fresh_state())
            self._client = None
        if self._client is None:
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(tracking_uri=self._uri)

    def _deliver(self, state: dict[str, Any]) -> None:
        delivery = Delivery(self._out, self._client, state, self._out / "mlartifacts" if self._local else None)
        for path in sorted(self._folder.glob("journal-*.jsonl")):
            for records, offset in chunks(path, state["offsets"].get(path.name, 0)):
                try:
                    delivery.send(records)
                except StoreForgot:
                    if self._forgot:
                        raise
                    self._forgot = True
                    state.update(fresh_state())
                    self._deliver(state)
                    return
                state["offsets"][path.name] = offset
                self._save(state)
        delivery.upload(lambda: self._save(state))

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = fresh_state()
            if self._state_file.exists():
                state.update(json.loads(self._state_file.read_text(encoding="utf-8")))
            yield state

    def _save(self, state: dict[str, Any]) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".sent-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(name, self._state_file)

    def _without_credentials(self, text: str) -> str:
        return re.sub(r"(?<=://)[^/\s@]*@", "***@", text.replace(self._uri, self._uri.split("@")[-1]))


def why(error: BaseException) -> str:
    """The error in one line: the system's own word where a refused or timed-out connection is at its root."""
    root = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    shown = root if isinstance(root, OSError) else error
    return f"{type(shown).__name__}: {shown}"


def fresh_state() -> dict[str, Any]:
    """A store to which nothing was sent."""
    return {"runs": {}, "offsets": {}, "later": [], "rejected": 0, "error": None}


def chunks(path: Path, offset: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Whole records of a journal from ``offset`` on, with the offset behind them; a torn last line is left."""
    with path.open("rb") as file:
        file.seek(offset)
        lines: list[bytes] = []
        for line in file:
            if not line.endswith(b"\n"):
                break
            lines.append(line)
            offset += len(line)
            if len(lines) == _RECORDS_A_CHUNK:
                yield list(parsed(lines)), offset
                lines = []
        if lines:
            yield list(parsed(lines)), offset


def parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """The readable records among lines."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "op" in record:
            yield record


def serve(sender: Sender, *, grace: float) -> None:
    """Follow the commands on stdin until it ends."""
    commands = os.fdopen(0, "rb", buffering=0)
    wait, failures, text = _EVERY_SECONDS, 0, b""
    while True:
        served: int | None = None
        if select.select([commands], [], [], wait)[0]:
            piece = commands.read(4096)
            if not piece:
                sender.mark_killed()
                drain(sender, grace)
                return
            *whole, text = (text + piece).split(b"\n")
            for command in whole:
                served = int(command.split()[1]) if command.startswith(b"flush ") else served
        failures = 0 if sender.attempt(served) else failures + 1
        wait = min(_EVERY_SECONDS * 2 ** min(failures, 5), _LONGEST_WAIT_SECONDS)


def drain(sender: Sender, grace: float) -> None:
    """Attempt until all is sent or the time is over."""
    end = time.monotonic() + grace
    while not sender.attempt() and time.monotonic() < end:
        time.sleep(_EVERY_SECONDS)


def main() -> None:
    """Entry point of the script; the store's URI comes by MLFLOW_TRACKING_URI, for command lines are public."""
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--store", required=True)
    options.add_argument("--local", action="store_true")
    options.add_argument("--journal")
    options.add_argument("--grace", type=float, default=20.0)
    given = options.parse_args()
    os.nice(5)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    sender = Sender(out=given.out, store=given.store, uri=uri, local=given.local, journal=given.journal)
    serve(sender, grace=given.grace)


if __name__ == "__main__":
    main()
