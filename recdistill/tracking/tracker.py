"""What the flow speaks to: runs, their curves, files and results, for MLflow to show.

A call here appends to the run folder's journal and returns; the sender process takes it from there. So a tracking
server that is down, slow or hanging costs a training nothing, and what could not be sent is sent by the next command
on the same run folder (or by :func:`sync`).
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel

from recdistill.contracts.journal import FOLDER, JournalledRun, read_runs
from recdistill.errors import UserError
from recdistill.tracking.journal import Journal, now
from recdistill.tracking.process import SenderProcess, Store
from recdistill.tracking.values import cut, flatten, metric_key, redact

Status = Literal["FINISHED", "FAILED", "KILLED"]

# A run is continued only while its data are the same; give the fingerprint under this tag.
DATA_FINGERPRINT = "data.fingerprint"
_MAX_TAG = 5000


class RunLog:
    """One MLflow run. Made by :meth:`Tracker.run`; as a context manager it finishes itself, FAILED on an exception."""

    def __init__(self, tracker: Tracker, run: JournalledRun, begin: dict[str, Any] | None = None) -> None:
        self._tracker, self._run = tracker, run
        self._begin = begin  # still to be written: a run that is only looked at leaves no trace

    @property
    def name(self) -> str:
        return self._run.name

    @property
    def has_figures(self) -> bool:
        """Whether anything was ever logged to it."""
        return bool(self._run.curves)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add points to curves (a ``LogFn``).

        A point that the journal has with the same value is dropped: a resumed training repeats the steps since its
        checkpoint.
        """
        time = now()
        new: dict[str, float] = {}
        for name, number in metrics.items():
            key, value = metric_key(name), float(number)
            curve = self._run.curves.setdefault(key, {})
            known = curve.get(step)
            if known is None or not (known[0] == value or (math.isnan(known[0]) and math.isnan(value))):
                curve[step] = (value, time)
                new[key] = value
        if new:
            self._write("metrics", step=step, time=time, values=new)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Set final figures; a value is a number or, as in metrics.json, a mapping with ``value``."""
        self.log({key: float(v["value"] if isinstance(v, Mapping) else v) for key, v in values.items()}, 0)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Attach a file or a whole folder.

        Args:
            path: it is read when it is sent, so it must stay where it is.
            folder: where it is put among the run's artifacts; "" is their top.
        """
        path = path.resolve()
        root = self._tracker.out
        place = path.relative_to(root) if path.is_relative_to(root) else path
        self._write("artifact", path=str(place), folder=folder)

    def dataset(self, name: str, digest: str, rows: int, source: str) -> None:
        """Name an input of the run: an MLflow dataset of ``rows`` rows, with its digest and where it came from."""
        self._write("dataset", name=name, digest=digest, rows=int(rows), source=redact(source))

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; a nested run then gives its best values to its parent as ``best/<name>/<metric>``."""
        parent = self._run.parent
        best = self._best()
        if parent is not None and best:
            self._tracker._log_to(parent, {f"best/{self._short_name()}/{key}": value for key, value in best.items()})
        self._tracker._open.pop(self._run.uid, None)
        if self._begin is None or self._run.status != status:
            self._write("finish", status=status)
        self._run.status, self._run.ended = status, now()

    def _announce(self) -> None:
        if self._begin is not None:
            self._tracker._write(self._begin | {"time": now()})
            self._begin, self._run.status = None, "RUNNING"

    def _write(self, op: str, **values: Any) -> None:
        self._announce()
        self._tracker._write({"op": op, "run": self._run.uid, "time": now(), **values})

    def _short_name(self) -> str:
        parent = self._tracker._name_of(self._run.parent)
        return self._run.name.removeprefix(f"{parent}/") if parent else self._run.name

    def _best(self) -> dict[str, float]:
        best: dict[str, float] = {}
        for key, curve in self._run.curves.items():
            values = [value for value, _ in curve.values() if math.isfinite(value)]
            word = key.rsplit("/", 1)[-1]
            if values and (word == "loss" or word.endswith(("_loss", "logloss"))):
                best[key] = min(values)
            elif values and word.startswith("validation"):
                best[key] = max(values)
        return best

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(_status(kind))


class Tracker:
    """The tracking of one run folder.

    Args:
        out: run folder (DIR); the journal is ``out/tracking``, the default store ``out/mlflow.db``.
        experiment: name of the MLflow experiment.
        uri: MLflow tracking address; None takes MLFLOW_TRACKING_URI, else the default store.

    Raises:
        UserError: the address is a folder store, or the default store's is one that MLflow misreads.
    """

    def __init__(self, out: Path, *, experiment: str, uri: str | None = None) -> None:
        self.out = out.resolve()
        self._experiment = experiment
        self._store = Store.choose(self.out, uri)
        self._warned = False
        self._closed = False
        self._open: dict[str, RunLog] = {}
        self._journal = Journal(self.out)
        self._runs = read_runs(self.out)
        self._sender = SenderProcess(self.out, self._store, journal=self._journal.path.name)
        if self._sender.pending():  # of an earlier process, whose server was away
            self._sender.start()

    def run(
        self,
        name: str,
        *,
        parent: str | None = None,
        params: Mapping[str, Any] | BaseModel | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> RunLog:
        """Begin a run, or continue it where this run folder knows it.

        MLflow's parameters never change. So a run whose parameters or ``data.fingerprint`` tag differ from last
        time's gets a successor: the old run stays, tagged ``recdistill.superseded_by``, and its nested runs move over.

        Args:
            name: lasting name within the run folder, e.g. ``seed-0/distill``.
            parent: name of the run that it is nested in; it must have been begun.
            params: settings, nested as they are; secrets are left out. None continues the run with those it has.
            tags: facts beside the settings: fingerprints, contract versions, code version.
        """
        before = self._runs.get(name)
        texts = {key: cut(redact(str(value)), _MAX_TAG) for key, value in (tags or {}).items()}
        flat = before.params if before is not None and params is None else flatten(params or {})
        data = (before.tags if before is not None else {}) | texts
        identity = _identity(flat, data.get(DATA_FINGERPRINT, ""))
        above = self._runs[parent].uid if parent is not None else None
        if before is None or before.identity != identity:
            current = JournalledRun(secrets.token_hex(16), name, above, identity, flat, texts, now())
            news = True
        else:
            current = before
            resumed = current.status != "FINISHED" and current.uid not in self._open
            news = (
                resumed
                or current.parent != above
                or any(current.tags.get(key) != value for key, value in texts.items())
            )
            current.parent = above
            current.tags.update(texts)
        self._runs[name] = current
        begin: dict[str, Any] = {"op": "run", "run": current.uid, "experiment": self._experiment, "name": name}
        begin |= {"parent": above, "params": flat, "tags": texts, "identity": identity}
        log = self._open.get(current.uid)
        if log is None or news:
            log = self._open[current.uid] = RunLog(self, current, begin)
        if news:
            log._announce()
        if before is not None and before is not current:
            self._supersede(before, current)
        return log

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything journalled was sent, at most ``timeout`` seconds; whether it was."""
        return self._sender.flush(timeout)

    def close(self, timeout: float = 30.0, *, status: Status = "FINISHED") -> bool:
        """Finish the runs that are still open, send the rest and end the sender.

        Returns:
            Whether everything was sent. If not, a warning was printed, and the next command on this folder sends it.
        """
        if self._closed:
            return True
        self._closed = True
        for run in reversed(list(self._open.values())):
            run.finish(status)
        done = self._sender.attempt(timeout) if self._sender.pending() else True
        if not done:
            reason = self._sender.error() or "no answer in time"
            self._warn(
                f"MLflow ({redact(self._store.uri)}) has not taken all of this run: {reason}. Nothing is lost: "
                f"{self.out / FOLDER} keeps it, and the next command on this folder sends it."
            )
        elif rejected := self._sender.rejected():
            self._warn(f"MLflow refused {rejected} records, listed in {self.out / FOLDER / 'rejected.jsonl'}")
        self._sender.stop()
        self._journal.close()
        return done

    @property
    def page(self) -> str:
        """What opens MLflow's page: a shell command for a database, else the server's address."""
        return self._store.page

    def _name_of(self, uid: str | None) -> str | None:
        return next((run.name for run in self._runs.values() if run.uid == uid), None)

    def _log_to(self, uid: str, values: Mapping[str, float]) -> None:
        run = next((run for run in self._runs.values() if run.uid == uid), None)
        if run is not None:
            RunLog(self, run).log(values, 0)

    def _supersede(self, before: JournalledRun, current: JournalledRun) -> None:
        told = {"recdistill.superseded_by": current.uid}
        self._write({"op": "tags", "run": before.uid, "time": now(), "values": told})
        for child in self._runs.values():
            if child.parent == before.uid:
                child.parent = current.uid
                self._write({"op": "parent", "run": child.uid, "time": now(), "parent": current.uid})

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._journal.write(record)
            self._sender.start()
        except (OSError, ValueError) as error:  # ValueError: logged to after close
            if not self._warned:
                self._warn(f"tracking is off, its journal cannot be written: {error}")
            self._warned = True

    @staticmethod
    def _warn(text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(status=_status(kind))


def page(out: Path, *, uri: str | None = None) -> str:
    """What opens MLflow's page of a run folder (:attr:`Tracker.page`).

    Raises:
        UserError: the address is a folder store.
    """
    return Store.choose(out, uri).page


def sync(out: Path, *, uri: str | None = None, timeout: float = 60.0) -> bool:
    """Send what the journals of a run folder hold and its store has not; whether all was sent in time.

    With another ``uri`` than before this copies the whole run there.

    Raises:
        UserError: there is no such run folder.
    """
    if not any((out / FOLDER).glob("journal-*.jsonl")):
        raise UserError(
            f"{out}: no run folder, it has no {FOLDER}/journal-*.jsonl",
            remedy="give the folder that `recdistill run … --out DIR` wrote",
        )
    sender = SenderProcess(out.resolve(), Store.choose(out, uri), journal=None)
    try:
        return sender.flush(timeout)
    finally:
        sender.stop()


def _status(error: type[BaseException] | None) -> Status:
    if error is None:
        return "FINISHED"
    return "KILLED" if issubclass(error, KeyboardInterrupt | SystemExit) else "FAILED"


def _identity(params: Mapping[str, str], fingerprint: str) -> str:
    return hashlib.sha256(json.dumps([sorted(params.items()), fingerprint]).encode()).hexdigest()
