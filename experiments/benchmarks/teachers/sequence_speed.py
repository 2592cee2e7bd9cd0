"""Whole training steps of the sequence teacher against RecTools' SASRec: same data, batch, sizes, loss and dtype.

Purpose: how many sequences a second each trains on: with SASRec's block and one objective as the peer has, and as the
defaults are (HSTU's block, which sees times, eras, and a second objective).
Command: python experiments/benchmarks/teachers/sequence_speed.py --peers FOLDER [--profile]
Time: about four minutes. Memory: 3 GB.
The peer runs as it is installed, and once more ("kept") with a C library that is told to keep memory: with the full
softmax it spends most of its time on getting memory and giving it back.
Expected: a row a loss and kind with sequences/s of both and the ratio, which is above 3 with SASRec's block.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from quality import KEEP_MEMORY, peer_environment

from recdistill.teachers.build import build_sequence_teacher
from recdistill.teachers.config import SequenceTeacherConfig
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.sequence_teacher import SequenceTeacher

ITEMS, LENGTH, DIM, BATCH, NEGATIVES = 20_000, 50, 64, 128, 256


def main() -> None:
    """Print the table, and where our time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="environment of RecTools, made if it is not there")
    parser.add_argument("--users", type=int, default=1_024, help="sequences of the peer's epoch")
    parser.add_argument("--steps", type=int, default=12, help="of ours")
    parser.add_argument("--profile", action="store_true", help="print where our step's time goes")
    of = parser.parse_args()
    venv = peer_environment(of.peers)
    rng = np.random.default_rng(0)
    # Zipf's law over items; each user has one window's worth of positives.
    item = np.minimum(ITEMS ** rng.random((of.users, LENGTH + 1)), ITEMS - 1).astype(np.int64)
    item.ravel()[:ITEMS] = rng.permutation(ITEMS)  # every item occurs
    print(f"{of.users} users × {LENGTH}, {ITEMS:,} items, d {DIM}, batch {BATCH}, {torch.get_num_threads()} threads")
    print(f"{'loss':<22}{'ours':<9}{'ours /s':>9}{'peer /s':>9}{'ratio':>7}{'peer kept /s':>14}{'ratio':>7}")
    for loss, full in ((f"softmax, {ITEMS:,} items", True), (f"softmax, {NEGATIVES} sampled", False)):
        theirs, kept = (peer(item, venv, full=full, environment=more) for more in ({}, KEEP_MEMORY))
        sizes = {"dim": DIM, "batch": BATCH, "length": LENGTH, "full_softmax_up_to": ITEMS if full else 0}
        for kind, config in {
            "SASRec": SequenceTeacherConfig(block="sasrec", eras=0, pooled_weight=0, negatives=NEGATIVES, **sizes),
            "default": SequenceTeacherConfig(negatives=NEGATIVES, **sizes),
        }.items():
            teacher = build_sequence_teacher(config, InMemory(positives(item), power=config.user_power), seed=0)
            for step in range(2):
                teacher.step(step)
            started = time.perf_counter()
            for step in range(of.steps):
                teacher.step(2 + step)
            ours = of.steps * BATCH / (time.perf_counter() - started)
            line = f"{loss:<22}{kind:<9}{ours:>9.0f}{theirs:>9.0f}{ours / theirs:>7.1f}"
            print(line + f"{kept:>14.0f}{ours / kept:>7.1f}", flush=True)
            if of.profile:
                profile(teacher)


def positives(item: np.ndarray) -> Positives:
    """Sequences as the teacher reads them."""
    users, length = item.shape
    flat = torch.from_numpy(item.ravel())
    return Positives(
        item_ids=pd.Index(range(ITEMS)),
        user_ids=pd.Index(range(users)),
        item=flat,
        behaviours=torch.ones(len(flat)),
        time=torch.arange(len(flat)),
        starts=torch.arange(0, users * length + 1, length),
        support=torch.bincount(flat, minlength=ITEMS),
    )


def peer(item: np.ndarray, venv: Path, *, full: bool, environment: Mapping[str, str]) -> float:
    """Sequences a second of one epoch, its set-up taken off by a second epoch."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        given, job, output = Path(folder) / "in.npz", Path(folder) / "job.json", Path(folder) / "out.npz"
        user = np.repeat(np.arange(len(item)), item.shape[1])
        np.savez(given, user=user, item=item.ravel(), query=item[:1, :LENGTH])
        for epochs in (1, 2):
            told = {
                "input": str(given),
                "output": str(output),
                "dim": DIM,
                "length": LENGTH,
                "seed": 0,
                "threads": torch.get_num_threads(),
                "lr": 1e-3,
                "dropout": 0.3,
                "epochs": [epochs],
                "loss": "softmax" if full else "sampled_softmax",
                "negatives": NEGATIVES,
            }
            job.write_text(json.dumps(told))
            script = Path(__file__).with_name("sasrec_peer.py")
            done = subprocess.run(
                [str(venv / "bin" / "python"), str(script), str(job)],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | environment,
            )
            if done.returncode:
                sys.exit(f"the peer failed:\n{done.stderr[-2000:]}")
            seconds.append(float(np.load(output)["seconds"]))
    return len(item) / (seconds[1] - seconds[0])


def profile(teacher: SequenceTeacher) -> None:
    """The operators that take most of a step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for step in range(3):
            teacher.step(step)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    main()
