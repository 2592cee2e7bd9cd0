"""Starting, asking and ending the sender program (``sender.py``)."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from recdistill.contracts.journal import FOLDER
from recdistill.errors import UserError
from recdistill.tracking.values import redact

LOCAL_DATABASE = "mlflow.db"
_SQLITE = "sqlite:///"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_POLL_SECONDS = 0.05
_RESTART_SECONDS = 30.0
_HTTP_SECONDS = 10
_UPLOAD_SECONDS = 30


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store.

    Attributes:
        uri: as MLflow takes it; may hold credentials and is never written down.
        local: the SQLite file of the run folder.
        name: what the file of sent offsets is called after.
    """

    uri: str
    local: bool
    name: str

    @classmethod
    def choose(cls, out: Path, uri: str | None) -> Store:
        """``uri``, or MLFLOW_TRACKING_URI, or ``out/mlflow.db``.

        Raises:
            UserError: the address is a folder, which MLflow 3 no longer writes to; or the run folder's path cannot
                stand in an address: MLflow takes ``?``, ``#`` and ``%`` for signs of it, and writes elsewhere.
        """
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        if uri is None:
            place = (out / LOCAL_DATABASE).resolve()
            if signs := sorted(set(str(place)) & set("?#%")):
                raise UserError(
                    f"{out}: MLflow cannot keep its database in a folder whose path has {' or '.join(signs)}",
                    remedy="give another --out, or set MLFLOW_TRACKING_URI to a tracking server",
                )
            return cls(f"{_SQLITE}{place}", True, "local")
        if ("://" not in uri and not uri.startswith("databricks")) or urlsplit(uri).scheme == "file":
            raise UserError(
                f"the MLflow tracking address {uri!r} is a folder, and MLflow writes no folder stores any more",
                remedy="unset MLFLOW_TRACKING_URI (the run folder then holds mlflow.db), or give http://… or sqlite:///….db",
            )
        return cls(uri, False, hashlib.sha256(uri.encode()).hexdigest()[:12])

    @property
    def page(self) -> str:
        """What opens MLflow's page: a shell command for a database, else the server's address; no credentials."""
        if urlsplit(self.uri).scheme.partition("+")[0] not in _DATABASES:
            return redact(self.uri)
        uri = f"{_SQLITE}{_shorter(Path(self.uri.removeprefix(_SQLITE)))}" if self.local else redact(self.uri)
        return shlex.join([*_mlflow(), "ui", "--backend-store-uri", uri])


class SenderProcess:
    """The sender of one run folder and store; started at first use, and again should it have died."""

    def __init__(self, out: Path, store: Store, *, journal: str | None) -> None:
        self._out, self._store, self._journal = out, store, journal
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -_RESTART_SECONDS
        self._asked = 0

    def start(self) -> None:
        """Start the program unless it runs or was tried within the last half minute."""
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() - self._started < _RESTART_SECONDS:
            return
        self._started = time.monotonic()
        command = [sys.executable, "-P", str(Path(__file__).with_name("sender.py"))]
        command += ["--out", str(self._out), "--store", self._store.name]
        command += ["--local"] if self._store.local else []
        command += ["--journal", self._journal] if self._journal else []
        try:
            with (self._out / FOLDER / "sender.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=_environment(self._store.uri),
                    start_new_session=True,  # Ctrl-C is for the training; the sender then still sends what there is
                )
        except OSError:
            self._process = None

    def pending(self) -> bool:
        """Whether a journal holds what the store has not got."""
        state = self._state()
        offsets = state.get("offsets", {})
        if self._store.local and not (self._out / LOCAL_DATABASE).exists():
            offsets = {}
        journals = (self._out / FOLDER).glob("journal-*.jsonl")
        return bool(state.get("later")) or any(path.stat().st_size > offsets.get(path.name, 0) for path in journals)

    def flush(self, timeout: float) -> bool:
        """Ask for everything to be sent and wait for it.

        Args:
            timeout: seconds; 0 or less asks and does not wait.

        Returns:
            Whether everything was sent in time.
        """
        end = time.monotonic() + timeout
        self.start()
        while self._ask():
            served = self._wait_served(end)
            if served is None:
                return False
            if served:
                return True
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        return False

    def attempt(self, timeout: float) -> bool:
        """As :meth:`flush`, but give up at the first failed attempt."""
        self.start()
        return self._ask() and bool(self._wait_served(time.monotonic() + timeout))

    def stop(self) -> None:
        """End the program at once; nothing is lost, the journal stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def error(self) -> str | None:
        """What the last failed attempt said, without credentials."""
        error: str | None = self._state().get("error")
        return error

    def rejected(self) -> int:
        """Records that the store will never take (``DIR/tracking/rejected.jsonl``)."""
        return int(self._state().get("rejected", 0))

    def _ask(self) -> bool:
        if self._process is None or self._process.stdin is None or self._process.poll() is not None:
            return False
        self._asked += 1
        try:
            self._process.stdin.write(b"flush %d\n" % self._asked)
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _wait_served(self, end: float) -> bool | None:
        """Whether the attempt asked for succeeded; None when it was not over in time or the program died."""
        process = self._process
        while process is not None:
            state = self._state()
            if state.get("by") == process.pid and state.get("served", 0) >= self._asked:
                return state.get("error") is None
            if time.monotonic() >= end or process.poll() is not None:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    def _state(self) -> dict:
        try:
            state: dict = json.loads((self._out / FOLDER / f"sent-{self._store.name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state


def _mlflow() -> list[str]:
    """The MLflow of this very environment, which need not be activated."""
    program = Path(sys.executable).with_name("mlflow")
    return [_shorter(program)] if program.exists() else [_shorter(Path(sys.executable)), "-m", "mlflow"]


def _shorter(path: Path) -> str:
    """The path as it is or from the working folder, whichever is shorter; never a bare name, which PATH would seek."""
    return min(str(path), os.path.join(os.path.relpath(path.parent), path.name), key=len)


def _environment(uri: str) -> dict[str, str]:
    def at_most(name: str, limit: int) -> str:
        given = os.environ.get(name, "")
        return str(min(int(given), limit)) if given.isdigit() else str(limit)

    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": at_most("MLFLOW_HTTP_REQUEST_TIMEOUT", _HTTP_SECONDS),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # repeating is the sender's, which looks a run up before creating it
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": at_most("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", _UPLOAD_SECONDS),
        "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        "OMP_NUM_THREADS": "1",
    }
