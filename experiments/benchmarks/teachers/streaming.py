"""The ID teacher from positives on disk against the same from memory: steps/s, who waits for whom, and peak memory.

Purpose: training must not be held up by its loader, and memory must not grow with the log. A synthetic log (Zipf items,
string ids) is written to a temporary folder, prepared as parts, and trained on; every row of the table is a process of
its own. Training takes turns, memory and streamed and back, so that a busy machine harms both.
Command: python experiments/benchmarks/teachers/streaming.py [--events 30000000] [--steps 120]
Time: about four minutes on two busy cores. Memory: 1.5 GB; disk: 800 MB.
Expected: no time spent waiting for the disk and under 5 % drawing; .75 to .95 of the steps/s from memory, of which a
part is the C library's: a process that never held the whole log gives memory back and fetches it again in every step
(MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set high win half of it back); and a peak that is the process's own
plus two windows, whatever the log's length.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import ROW_GROUP, write_table
from recdistill.teachers.build import build_id_teacher
from recdistill.teachers.config import IdTeacherConfig
from recdistill.teachers.parts import Parts, write_parts
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.stream import Streamed

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where own_process stands
from own_process import peak

ITEMS, PER_USER, BLOCK = 200_000, 20, 50_000
PART, WINDOW = 1_000_000, 2
GIVEN = {"min_behaviours": 1, "last": 1_000, "seed": 0}
CONFIG = IdTeacherConfig(dim=64, batch=1_024, full_softmax_up_to=0)
WARM = 5


def main() -> None:
    """Print the preparation's row, a row a way of training, and the loader's own speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000_000)
    parser.add_argument("--steps", type=int, default=120, help="timed steps a turn; there are two turns each")
    parser.add_argument("--role", choices=sorted(ROLES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    of = parser.parse_args()
    if of.role:
        found = ROLES[of.role](of.folder, of)
        print(json.dumps(found | {"peak": peak()}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = run("make", folder, of)
        print(
            f"{made['events']:,} events, {made['megabytes']:.0f} MB on disk, batch {CONFIG.batch}, "
            f"{torch.get_num_threads()} threads; peaks in MiB"
        )
        prepared = run("prepare", folder, of)
        print(
            f"prepared {prepared['positives']:,} positives in {prepared['parts']} parts: {prepared['seconds']:.1f} s, "
            f"{made['events'] / prepared['seconds']:,.0f} rows/s, peak {prepared['peak']:,.0f} "
            f"({prepared['before']:,.0f} before)",
            flush=True,
        )
        turns = [(role, run(role, folder, of)) for role in ("memory", "streamed", "streamed", "memory")]
        print(f"{'from':<10}{'steps/s':>9}{'drawing':>9}{'waiting':>9}{'before':>8}{'peak':>7}")
        speed = {}
        for role in ("memory", "streamed"):
            mine = [found for name, found in turns if name == role]
            seconds, drawn, waited = (sum(found[key] for found in mine) for key in ("seconds", "drawn", "waited"))
            speed[role] = len(mine) * of.steps / seconds
            before, most = (max(found[key] for found in mine) for key in ("before", "peak"))
            shares = f"{drawn / seconds:>9.1%}{waited / seconds:>9.2%}"
            print(f"{role:<10}{speed[role]:>9.2f}{shares}{before:>8.0f}{most:>7.0f}")
        print(f"streamed / memory: {speed['streamed'] / speed['memory']:.2f} of the steps/s")
        alone = run("loader", folder, of)
        print(
            f"loader alone: an epoch of {alone['steps']} draws in {alone['seconds']:.1f} s, {alone['waited']:.1f} s of "
            f"them reading: {alone['steps'] / alone['seconds']:.0f} steps/s, "
            f"{alone['steps'] / alone['seconds'] / speed['memory']:.0f} × what the teacher takes"
        )


def run(role: str, folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """What a process of its own prints."""
    told = ["--role", role, "--folder", str(folder), "--events", str(of.events), "--steps", str(of.steps)]
    done = subprocess.run([sys.executable, __file__, *told], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def make(folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """Write the log as a fold's training table, sorted by user, in row groups of the split stage's size."""
    item_ids = pa.array([f"item-{row:06d}" for row in range(ITEMS)])
    write_table(pd.DataFrame({"item_id": item_ids.to_pandas(), "role": "warm"}), folder / "items.parquet")
    path, users, writer, events = folder / "train.parquet", of.events // PER_USER, None, 0
    for first in range(0, users, BLOCK):
        rng = np.random.default_rng([0, first])
        block = np.arange(first, min(first + BLOCK, users))
        counts = rng.geometric(1 / (PER_USER - 1), len(block)) + 1
        user, total = np.repeat(np.arange(len(block)), counts), int(counts.sum())
        moment = rng.integers(10**15, 2 * 10**15, total)
        order = np.lexsort((moment, user))
        user_ids = pa.array([f"user-{row:08d}" for row in block])
        item = (ITEMS ** rng.random(total)).astype(np.int64) - 1  # Zipf's law, as density of ranks
        table = pa.table(
            {
                "user_id": user_ids.take(pa.array(user)),
                "item_id": item_ids.take(pa.array(item)),
                "timestamp": pa.array(moment[order]).cast(pa.timestamp("us", "UTC")),
                "behaviours": pa.ListArray.from_arrays(
                    pa.array(np.arange(total + 1), pa.int32()), pa.repeat(pa.scalar("like"), total)
                ),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROW_GROUP)
        events += total
    if writer is not None:
        writer.close()
    return {"events": events, "megabytes": path.stat().st_size / 1e6}


def prepare(folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """Write the parts."""
    before, started = peak(), time.perf_counter()
    parts = write_parts(Fold(folder), "selection", folder / "parts", key="", part_positives=PART, **GIVEN)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "positives": sum(parts.positives), "parts": len(parts), "before": before}


def memory(folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """Train with all positives in memory."""
    before, parts = peak(), Parts.open(folder / "parts")
    rows, users = sum(parts.positives), sum(parts.users)
    item, behaviours, moment = torch.empty(rows).long(), torch.empty(rows), torch.empty(rows).long()
    starts, row = torch.zeros(users + 1).long(), 0
    for part, user in enumerate(parts.first_user[:-1].tolist()):
        its = slice(row, row + parts.positives[part])
        counts = starts[1 + user : 1 + user + parts.users[part]]
        parts.fill(part, item=item[its], behaviours=behaviours[its], time=moment[its], counts=counts)
        row = its.stop
    everything = Positives(
        parts.item_ids, pd.RangeIndex(users), item, behaviours, moment, starts.cumsum(0), parts.support
    )
    return train(InMemory(everything, power=CONFIG.user_power), of) | {"before": before}


def streamed(folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """Train with two windows in memory at most."""
    before = peak()
    with closing(stream(folder)) as source:
        return train(source, of) | {"before": before}


def loader(folder: Path, of: argparse.Namespace) -> dict[str, float]:
    """Draw an epoch and train nothing."""
    with closing(stream(folder)) as source:
        started = time.perf_counter()
        for step in range(source.steps_an_epoch):
            source.draw(step, CONFIG.batch, torch.Generator().manual_seed(step))
        seconds = time.perf_counter() - started
        return {"steps": source.steps_an_epoch, "seconds": seconds, "waited": source.waited}


def stream(folder: Path) -> Streamed:
    return Streamed(
        Parts.open(folder / "parts"), power=CONFIG.user_power, seed=0, batch=CONFIG.batch, window_parts=WINDOW
    )


class Watched:
    """A source whose draws are timed."""

    def __init__(self, source: InMemory | Streamed) -> None:
        self.source, self.drawn = source, 0.0
        self.item_ids, self.support, self.users = source.item_ids, source.support, source.users

    def draw(self, step: int, size: int, generator: torch.Generator):
        started = time.perf_counter()
        batch = self.source.draw(step, size, generator)
        self.drawn += time.perf_counter() - started
        return batch


def train(source: InMemory | Streamed, of: argparse.Namespace) -> dict[str, float]:
    """Seconds of the timed steps, and those of them that drawing and waiting took."""
    watched = Watched(source)
    teacher = build_id_teacher(CONFIG, watched, seed=0)
    for step in range(WARM):
        teacher.step(step)
    waited = source.waited if isinstance(source, Streamed) else 0.0
    watched.drawn, started = 0.0, time.perf_counter()
    for step in range(WARM, WARM + of.steps):
        teacher.step(step)
    seconds = time.perf_counter() - started
    waited = source.waited - waited if isinstance(source, Streamed) else 0.0
    return {"seconds": seconds, "drawn": watched.drawn, "waited": waited}


ROLES = {"make": make, "prepare": prepare, "memory": memory, "streamed": streamed, "loader": loader}

if __name__ == "__main__":
    main()
