"""Reading the tracking journal: everything that a run says of itself (``recdistill.tracking`` writes it).

``DIR/tracking/journal-<time>-<pid>-<random>.jsonl``: one file a process, one JSON record a line, only ever appended
to and handed to the operating system at once, so killing the process loses nothing that was logged. A last line
that was torn has no newline and does not count. Records (``run`` is the run's uid, ``time`` in ms since 1970):

| op | further keys |
|---|---|
| run | experiment, name, parent (uid or null), params, tags, identity: begins or continues a run |
| metrics | step, values |
| artifact | path (relative to DIR where it lies inside), folder |
| dataset | name, digest, rows, source |
| tags | values |
| parent | parent: the run now belongs below another one |
| finish | status |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "tracking"
Curve = dict[int, tuple[float, int]]
"""step → (value, time in ms); the last record of a step counts."""


@dataclass
class JournalledRun:
    """What the journals say of one run, all processes taken together.

    Attributes:
        uid: the run's lasting identity.
        name: its name in the run folder, e.g. ``seed-0/distill``.
        parent: uid of the parent run.
        identity: digest of what may not change within a run (parameters, data).
        status: ``RUNNING`` until a finish is journalled.
        curves: by metric, step → (value, time).
    """

    uid: str
    name: str
    parent: str | None
    identity: str
    params: dict[str, str]
    tags: dict[str, str]
    started: int
    status: str = "RUNNING"
    ended: int | None = None
    curves: dict[str, Curve] = field(default_factory=dict)


def records(out: Path) -> Iterator[dict[str, Any]]:
    """All whole records of a run folder, oldest journal first; unreadable lines are skipped."""
    for path in sorted((out / FOLDER).glob("journal-*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and "op" in record and "run" in record:
                    yield record


def read_runs(out: Path) -> dict[str, JournalledRun]:
    """The current run of each name. A run that was superseded (its settings changed) is left out."""
    runs: dict[str, JournalledRun] = {}
    by_uid: dict[str, JournalledRun] = {}
    for record in records(out):
        uid = record["run"]
        if record["op"] == "run":
            run = by_uid.get(uid)
            if run is None:
                run = JournalledRun(
                    uid, record["name"], record["parent"], record["identity"], record["params"], {}, record["time"]
                )
                by_uid[uid] = run
            run.tags.update(record["tags"])
            run.parent, run.status, run.ended = record["parent"], "RUNNING", None
            runs[run.name] = run
        elif (run := by_uid.get(uid)) is None:
            continue
        elif record["op"] == "metrics":
            for key, value in record["values"].items():
                run.curves.setdefault(key, {})[record["step"]] = (float(value), record["time"])
        elif record["op"] == "parent":
            run.parent = record["parent"]
        elif record["op"] == "finish":
            run.status, run.ended = record["status"], record["time"]
    return runs
