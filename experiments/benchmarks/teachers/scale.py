"""The ID teacher with a table of 20 million rows: one process and two ranks, against a table of one million.

Purpose: a table that one team needs TorchRec for must train nearly as fast as a small one, in the memory that the
formula says, and its checkpoint must load at another number of ranks with every bit of weights and optimizer state.
Command: python experiments/benchmarks/teachers/scale.py [--rows 20000000] [--steps 40] [--folder DIR]
Time: about 6 minutes on two cores. Memory: 6 GB a process. Disk: 5.2 GB in FOLDER, deleted at the end.
Expected: a row a case; samples/s of the large table at least .8 of the small one's; 0 differing values.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from recdistill import checkpoint
from recdistill.teachers.build import build_id_teacher
from recdistill.teachers.config import IdTeacherConfig
from recdistill.teachers.positives import UserBatch
from recdistill.world import World

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where own_process stands
from own_process import peak

DIM, BATCH, HISTORY, NEGATIVES = 64, 2_048, 20, 1_024
SMALL = 1_000_000


class PlantedUsers:
    """Endless users with ``HISTORY`` positives each, by Zipf's law, for tables of any size."""

    def __init__(self, rows: int) -> None:
        self.item_ids = pd.RangeIndex(rows)
        self.support = torch.zeros(rows, dtype=torch.int64)
        self.users = rows
        self.times = (0, 1)

    def draw(self, step: int, size: int, generator: torch.Generator) -> UserBatch:
        """As :class:`recdistill.teachers.positives.UserBatches`."""
        rows, count = len(self.item_ids), size * HISTORY
        rank = (rows ** torch.rand(count, generator=generator, dtype=torch.float64) - 1).long()
        item = rank * 7_919 % rows  # popular rows lie all over the table
        user = torch.randint(self.users, (size,), generator=generator)
        return UserBatch(
            user, torch.full((size,), HISTORY), item, torch.ones(count), torch.zeros(count, dtype=torch.int64)
        )


def main() -> None:
    """Run each case in processes of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--steps", type=int, default=40, help="the median of which counts")
    parser.add_argument("--folder", type=Path, help="where the checkpoints go; default: a temporary folder")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # what this script starts itself with
    of = parser.parse_args()
    if of.case:
        work(json.loads(of.case))
        return
    folder = Path(tempfile.mkdtemp(dir=of.folder))
    try:
        compare(of.rows, of.steps, folder)
    finally:
        shutil.rmtree(folder)


def compare(rows: int, steps: int, folder: Path) -> None:
    """Measure every case; the large tables' checkpoints are read again at another number of ranks."""
    print(f"d {DIM}, batch {BATCH} users of {HISTORY} positives, {NEGATIVES} negatives; a step reads about 20,000 rows")
    print(f"{'rows':>12}{'ranks':>7} {'sharding':<12}{'samples/s':>10}{'to 1M':>7}{'peak GB':>9}"
          f"{'saved GB':>10}{'save s':>8}   read again at so many ranks")  # fmt: skip
    for ranks, sharding in ((1, "one process"), (2, "row_wise"), (2, "table_wise")):
        speeds = {}
        for size in (SMALL, rows):
            saved = folder / f"{ranks}-{sharding}" if size == rows else None
            case = {"rows": size, "steps": steps, "sharding": sharding, "save": saved and str(saved)}
            found = start(case, ranks)
            speeds[size] = sum(each["samples"] for each in found) / max(each["seconds"] for each in found)
            line = f"{size:>12,}{ranks:>7} {sharding:<12}{speeds[size]:>10,.0f}{speeds[size] / speeds[SMALL]:>7.2f}"
            line += f"{max(each['peak'] for each in found):>9.2f}"
            if saved is not None:
                size_on_disk = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
                line += f"{size_on_disk / 2**30:>10.2f}{max(each['save'] for each in found):>8.1f}"
                for others in (2,) if ranks == 1 else (1, 3):
                    again = start(case | {"save": None, "load": str(saved)}, others)
                    seconds = max(each["load"] for each in again)
                    same = digests(found) == digests(again)
                    line += f"   at {others}: {seconds:.1f} s, {'the same bits' if same else 'OTHER BITS'}"
                shutil.rmtree(saved)
            print(line, flush=True)


def digests(ranks: list[dict[str, Any]]) -> dict[str, int]:
    """Of the whole tables, from those of each rank's part."""
    return {name: sum(each["digest"][name] for each in ranks) % 2**63 for name in ranks[0]["digest"]}


def start(case: dict[str, object], ranks: int) -> list[dict[str, Any]]:
    """Run a case at so many ranks; what each printed."""
    script = [__file__, "--case", json.dumps(case)]
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run([sys.executable, *launcher, *script], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} at {ranks} ranks failed:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def work(case: dict[str, object]) -> None:
    """One rank of one case: steps and perhaps saving, or loading alone."""
    with World.joined() as world:
        config = IdTeacherConfig(dim=DIM, batch=BATCH, full_softmax_up_to=0, negatives=NEGATIVES, history=10)
        sharding = "row_wise" if case["sharding"] == "one process" else str(case["sharding"])
        users = PlantedUsers(int(str(case["rows"])))
        teacher = build_id_teacher(config, users, seed=0, world=world, sharding=sharding)  # type: ignore[arg-type]
        state = teacher.state["items"].state_dict()  # live tensors
        found: dict[str, object] = {"samples": 0, "seconds": 1.0}
        steps = int(str(case["steps"]))
        if case.get("load"):
            found["load"] = timed(lambda: load(Path(str(case["load"])), state, world))
        else:
            for step in range(3):
                teacher.step(step)
            world.barrier()
            seconds = statistics.median(timed(lambda step=step: teacher.step(step)) for step in range(3, 3 + steps))
            share = world.share(BATCH)
            found |= {"samples": share.stop - share.start, "seconds": seconds}
        found["peak"] = peak() / 1024
        if case.get("save"):
            found["save"] = timed(lambda: checkpoint.save(Path(str(case["save"])), state, about={}, world=world))
        if int(str(case["rows"])) > SMALL:
            found["digest"] = {name: digest(of) for name, of in state.items()}
        os.write(1, (json.dumps(found) + "\n").encode())  # one write, so that ranks do not mix their lines


def load(folder: Path, state: dict[str, Any], world: World) -> None:
    """Read a checkpoint into live tensors."""
    found = checkpoint.find(folder, world=world)
    assert found is not None
    found.load(state)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def digest(tensor: Tensor) -> int:
    """A sum over all bits and their places, of this rank's part; parts add up, modulo 2^63, whatever the sharding."""
    parts = [(0, tensor)]
    if isinstance(tensor, ShardedTensor):
        parts = [(shard.metadata.shard_offsets[0], shard.tensor) for shard in tensor.local_shards()]
    total = 0
    for first, part in parts:
        width = part[0].numel()
        for start in range(0, len(part), 1 << 20):
            bits = part[start : start + (1 << 20)].reshape(-1).view(torch.int32).long()
            place = torch.arange(len(bits)) + (first + start) * width
            total += int((bits * (2 * place + 1)).sum())
    return total % 2**63


if __name__ == "__main__":
    main()
