from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recdistill.contracts.journal import read_runs, records
from recdistill.tracking.journal import Journal


def _begin(uid: str = "u1", name: str = "seed-0", identity: str = "i") -> dict[str, object]:
    base = {"op": "run", "run": uid, "time": 1, "experiment": "e", "name": name, "parent": None}
    return {**base, "params": {}, "tags": {}, "identity": identity}


def test_records_come_back_with_nan_and_infinity(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(_begin())
    values = {"loss": math.nan, "up": math.inf, "down": -math.inf, "one": 1.5}
    journal.write({"op": "metrics", "run": "u1", "step": 3, "time": 7, "values": values})
    curves = read_runs(tmp_path)["seed-0"].curves
    assert math.isnan(curves["loss"][3][0])
    assert curves["up"][3] == (math.inf, 7)
    assert curves["down"][3] == (-math.inf, 7)
    assert curves["one"] == {3: (1.5, 7)}
    json.loads(journal.path.read_bytes().splitlines()[1], parse_constant=lambda name: pytest.fail(name))


def test_torn_last_line_and_garbage_do_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(_begin())
    with journal.path.open("ab") as file:
        file.write(
            b'not json\n{"op": "metrics", "run": "u1", "step": 0, "time": 1, "values": {"loss": 1.0}}\n{"op": "finish"'
        )
    assert [record["op"] for record in records(tmp_path)] == ["run", "metrics"]


def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(_begin())

    def write(key: str) -> None:
        for step in range(200):
            journal.write({"op": "metrics", "run": "u1", "step": step, "time": 1, "values": {key: 1.0 * step}})

    threads = [threading.Thread(target=write, args=(f"k{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    curves = read_runs(tmp_path)["seed-0"].curves
    assert {key: len(curve) for key, curve in curves.items()} == {f"k{n}": 200 for n in range(4)}


def test_a_kill_loses_nothing_that_was_logged(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from recdistill.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]))
step = 0
while True:
    journal.write({"op": "metrics", "run": "u", "step": step, "time": 1, "values": {"loss": 1.0}})
    print(step, flush=True)
    step += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(100):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    said = [int(line) for line in process.stdout.read().split(b"\n") if line.strip()]
    process.wait()
    time.sleep(0)
    steps = [record["step"] for record in records(tmp_path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > max(said, default=99)


def test_the_current_run_of_a_name_is_the_last_begun(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.write(_begin("old", identity="1"))
    first.write({"op": "metrics", "run": "old", "step": 0, "time": 1, "values": {"loss": 1.0}})
    first.write(_begin("new", identity="2"))
    first.write({"op": "finish", "run": "new", "time": 9, "status": "FINISHED"})
    second.close()
    runs = read_runs(tmp_path)
    assert list(runs) == ["seed-0"]
    assert (runs["seed-0"].uid, runs["seed-0"].curves, runs["seed-0"].status, runs["seed-0"].ended) == (
        "new",
        {},
        "FINISHED",
        9,
    )
