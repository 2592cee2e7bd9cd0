"""Stages that run once: skipped when nothing they depend on has changed, resumed when they were killed.

A stage owns a folder. ``_stage.json`` in it says, once the stage has ended, under which fingerprint and what it wrote;
``_running.json`` says under which fingerprint it is at work. The fingerprint covers the stage's settings, its code and
the fingerprints of the stages it reads.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recdistill
from recdistill.contracts.tables import write_json

_DONE = "_stage.json"
_RUNNING = "_running.json"


@dataclass(frozen=True)
class Stage:
    """One stage of one seed and fold.

    Attributes:
        name: e.g. ``teach``; several stages of a run may share it.
        folder: where it writes, relative to the run's folder; unique.
        settings: JSON-able settings that its result depends on.
        reads: folders of the stages whose output it reads.
        code: packages of recdistill whose source its result depends on.
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
        code = {package: _source_digest(package) for package in stage.code}
        what = {"stage": stage.name, "settings": stage.settings, "reads": upstream, "code": code}
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def done(self, stage: Stage) -> bool:
        """Has the stage ended under its present fingerprint, and is what it wrote still there?"""
        record = _read(self.out / stage.folder / _DONE)
        return record.get("fingerprint") == self.fingerprint(stage) and all(
            (self.out / stage.folder / name).is_file() and (self.out / stage.folder / name).stat().st_size == size
            for name, size in record["files"].items()
        )

    def forget(self, folder: str) -> None:
        """Let the stage of that folder run again."""
        (self.out / folder / _DONE).unlink(missing_ok=True)

    def execute(self, stage: Stage) -> bool:
        """Run the stage unless it is done; returns whether it ran."""
        key, folder = self.fingerprint(stage), self.out / stage.folder
        self.fingerprints[stage.folder] = key
        if self.done(stage):
            self.say(f"{stage.folder}: unchanged, skipped")
            return False
        (folder / _DONE).unlink(missing_ok=True)
        if folder.exists() and _read(folder / _RUNNING).get("fingerprint") != key:
            shutil.rmtree(folder)  # work of other settings; a killed stage of the same ones goes on from what it left
        for torn in folder.rglob(".*.tmp"):  # a write that was killed before its rename
            torn.unlink()
        write_json({"fingerprint": key}, folder / _RUNNING)
        started = time.monotonic()
        stage.run(folder, key)
        (folder / _RUNNING).unlink()
        seconds = time.monotonic() - started
        files = {
            str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
        }
        write_json({"fingerprint": key, "seconds": round(seconds, 3), "files": files}, folder / _DONE)
        self.say(f"{stage.folder}: done in {seconds:.1f} s")
        return True


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return value


def _source_digest(package: str) -> str:
    root = Path(recdistill.__file__).parent / package
    sources = sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()
