"""The tracking journal as the report reads it; ``recdistill/tracking/journal.py`` describes the records."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Run:
    """A tracked run: its settings, and per metric the curve step → value."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    curves: dict[str, dict[int, float]] = field(default_factory=dict)


def read_journal(folder: Path) -> dict[str, Run]:
    """The last begun run of each name; a torn last line and lines that are no records are skipped."""
    by_uid: dict[str, Run] = {}
    current: dict[str, Run] = {}
    for path in sorted(folder.glob("journal-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                record = json.loads(line)
                op, uid = record["op"], record["run"]
            except (ValueError, TypeError, KeyError):
                continue
            if op == "run":
                run = by_uid.setdefault(uid, Run(record["name"], record["params"], {}))
                run.tags.update(record["tags"])
                current[run.name] = run
            elif op == "metrics" and uid in by_uid:
                for key, value in record["values"].items():
                    by_uid[uid].curves.setdefault(key, {})[record["step"]] = float(value)
    return current
