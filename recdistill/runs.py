"""Stages that run once: skipped when nothing they depend on has changed, resumed when they were killed.

A stage owns a folder. ``_stage.json`` in it says, once the stage has ended, under which fingerprint and what it wrote;
``_running.json`` says under which fingerprint it is at work. A folder with neither is not ours and is never emptied.
The fingerprint covers the stage's settings, its code and the fingerprints of the stages it reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recdistill
from recdistill.contracts.tables import write_json
from recdistill.errors import UserError

LOCK = ".lock"
_DONE = "_stage.json"
_RUNNING = "_running.json"
_MARKS = (_DONE, _RUNNING)
_NOTHING = ""  # the fingerprint of a stage at work that has nothing to go on from


@dataclass(frozen=True)
class Stage:
    """One stage of one seed and fold.

    Attributes:
        name: e.g. ``teach``; several stages of a run may share it.
        folder: where it writes, relative to the run's folder; unique.
        settings: JSON-able settings that its result depends on.
        reads: folders of the stages whose output it reads.
        code: packages and modules of recdistill whose files its result depends on.
        run: does the work; gets the output folder and the fingerprint.
    """

    name: str
    folder: str
    settings: Mapping[str, Any]
    reads: Sequence[str]
    code: Sequence[str]
    run: Callable[[Path, str], None]


@dataclass
class Runner:
    """Runs stages in order within a run folder.

    Attributes:
        out: the run's folder.
        say: told what happens to each stage.
    """

    out: Path
    say: Callable[[str], None]
    fingerprints: dict[str, str] = field(default_factory=dict)

    def fingerprint(self, stage: Stage) -> str:
        """SHA-256 of what the stage's result depends on; the stages it reads must have been run or skipped before."""
        upstream = {folder: self.fingerprints[folder] for folder in stage.reads}
        code = {package: source_digest(package) for package in stage.code}
        what = {"stage": stage.name, "settings": stage.settings, "reads": upstream, "code": code}
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def check(self, stages: Iterable[Stage], *, inputs: Iterable[Path] = (), roots: Iterable[Path] = ()) -> None:
        """Refuse a run folder in which a stage would overwrite or erase what is not its own.

        Args:
            inputs: files and folders that are read; no stage's folder may hold one or lie in one.
            roots: folders that inputs are looked for in; no stage's folder may hold one.

        Raises:
            UserError: naming the folder.
        """
        read = [(path.resolve(), True) for path in inputs] + [(path.resolve(), False) for path in roots]
        for stage in stages:
            folder = self.out / stage.folder
            place = folder.resolve()
            for path, whole in read:
                if path.is_relative_to(place) or (whole and place.is_relative_to(path)):
                    raise UserError(
                        f"{folder}: the stage '{stage.name}' would write here, over its own input {path}",
                        remedy="give another --out",
                    )
            self._own(stage)

    def plan(self, stages: Iterable[Stage]) -> None:
        """Know the fingerprints of all stages, given in their order, before any is run."""
        for stage in stages:
            self.fingerprints[stage.folder] = self.fingerprint(stage)

    def done(self, stage: Stage) -> bool:
        """Has the stage ended under its present fingerprint, and is what it wrote still there?"""
        record = _read(self.out / stage.folder / _DONE)
        return record.get("fingerprint") == self.fingerprint(stage) and all(
            (self.out / stage.folder / name).is_file() and (self.out / stage.folder / name).stat().st_size == size
            for name, size in record["files"].items()
        )

    def forget(self, folder: str) -> None:
        """Let the stage of that folder run again, from nothing."""
        if (self.out / folder / _DONE).exists():
            write_json({"fingerprint": _NOTHING}, self.out / folder / _RUNNING)  # the folder stays marked as ours
            (self.out / folder / _DONE).unlink()

    def withdraw(self, stage: Stage) -> None:
        """Take away what an out-of-date stage left, so that nobody takes it for what the settings now say."""
        folder = self.out / stage.folder
        if (folder / _DONE).exists() and not self.done(stage):
            _empty(folder)
            self.say(f"{stage.folder}: of other settings or data, removed; `recdistill run` makes it anew")

    def execute(self, stage: Stage) -> bool:
        """Run the stage unless it is done; returns whether it ran.

        Raises:
            UserError: its folder holds what no stage has written.
        """
        key, folder = self.fingerprint(stage), self.out / stage.folder
        self.fingerprints[stage.folder] = key
        if self.done(stage):
            (folder / _RUNNING).unlink(missing_ok=True)  # killed just after it had ended
            self.say(f"{stage.folder}: unchanged, skipped")
            return False
        self._own(stage)
        if (folder / _DONE).exists() or _read(folder / _RUNNING).get("fingerprint") != key:
            _empty(folder)  # work of other settings; a killed stage of the same ones goes on from what it left
        for torn in folder.rglob(".*.tmp"):  # a write that was killed before its rename
            torn.unlink()
        write_json({"fingerprint": key}, folder / _RUNNING)
        started = time.monotonic()
        stage.run(folder, key)
        seconds = time.monotonic() - started
        files = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in _MARKS
        }
        write_json({"fingerprint": key, "seconds": round(seconds, 3), "files": files}, folder / _DONE)
        (folder / _RUNNING).unlink()  # last: a kill between the two must not cost what is done
        self.say(f"{stage.folder}: done in {seconds:.1f} s")
        return True

    def _own(self, stage: Stage) -> None:
        """Refuse a folder that a stage has not marked, unless it is empty."""
        folder = self.out / stage.folder
        if folder.is_dir() and not any("fingerprint" in _read(folder / mark) for mark in _MARKS):
            foreign = next(folder.iterdir(), None)
            if foreign is not None:
                raise UserError(
                    f"{folder}: the stage '{stage.name}' would write here, but the folder holds what no run has "
                    f"written, e.g. '{foreign.name}'",
                    remedy="give another --out, or move that folder away",
                )
        elif folder.exists() and not folder.is_dir():
            raise UserError(
                f"{folder}: the stage '{stage.name}' would write a folder here, but there is a file",
                remedy="give another --out, or move that file away",
            )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a run folder to this process; the kernel gives it free when the process ends, however it ends.

    Raises:
        UserError: another process has it.
    """
    with (out / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise UserError(
                f"{out}: this folder is in use by another run (pid {holder or 'unknown'})",
                remedy="wait for it to end, or give another --out",
            ) from None
        except OSError:
            pass  # a file system that knows no locks: better unguarded than unusable
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _empty(folder: Path) -> None:
    """Remove what a stage has left. The mark stays throughout: a kill on the way must not orphan the rest."""
    write_json({"fingerprint": _NOTHING}, folder / _RUNNING)
    for path in folder.iterdir():
        if path.name == _RUNNING:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def source_digest(package: str) -> str:
    """SHA-256 of a package's or module's files: its code, and the templates and scripts beside it."""
    root = Path(recdistill.__file__).parent / package
    if root.is_dir():
        sources = [
            path
            for path in sorted(root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.relative_to(root).parts
        ]
    else:
        sources = [root.with_suffix(".py")]
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.relative_to(root.parent)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
