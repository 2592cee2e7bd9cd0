"""Teachers killed with SIGKILL at random steps and started again, at one rank and at two: every bit as if never killed.

Purpose: a resumed training must equal an uninterrupted one, also when it goes on at another number of ranks.
Command: python experiments/benchmarks/teachers/kill_steps.py [--kills 5] [--seed 0]
Time: about 5 minutes on two cores. Memory: 1 GB a process.
Expected: a row a teacher and number of ranks with 0 differing values after each kill; at another number of ranks,
a difference of rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scale import PlantedUsers

from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig, SlotsConfig
from recdistill.training import fit
from recdistill.world import World

ROWS, STEPS = 20_000, 60
TEACHERS = ("id", "id in slots", "sequence")


def main() -> None:
    """Print a row a teacher and number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", help=argparse.SUPPRESS)  # what this script starts itself with
    of = parser.parse_args()
    if of.job:
        work(json.loads(of.job))
        return
    rng, folder = random.Random(of.seed), Path(tempfile.mkdtemp())
    worst = 0
    try:
        for name in TEACHERS:
            for ranks in (1,) if name == "id in slots" else (1, 2):
                whole = start(folder / "whole", name, ranks)
                steps, differing = [], []
                for _ in range(of.kills):
                    steps.append(rng.randrange(10, STEPS - 1))
                    start(folder / "killed", name, ranks, die_at=steps[-1])
                    resumed_from = saved_step(folder / "killed")
                    again = start(folder / "killed", name, ranks)
                    differing.append(int((whole.view(np.int32) != again.view(np.int32)).sum()))
                    steps[-1] = f"{steps[-1]} (from {resumed_from})"
                worst = max(worst, *differing)
                line = f"{name:<12}{ranks} rank{'s' if ranks > 1 else ' '}  killed at step {', '.join(steps)}: "
                print(line + f"differing values {differing} of {whole.size:,}", flush=True)
                if ranks == 2:
                    start(folder / "killed", name, 2, die_at=STEPS // 2)
                    alone = start(folder / "killed", name, 1)
                    far = np.abs(whole - alone).max()
                    print(f"{'':<12}killed at two ranks, gone on at one: largest difference {far:.1e}", flush=True)
    finally:
        shutil.rmtree(folder)
    sys.exit(worst > 0)


def saved_step(folder: Path) -> int:
    """The step from which a killed training goes on."""
    return int(json.loads((folder / "checkpoint" / "latest.json").read_text())["about"]["result"]["steps"])


def start(folder: Path, name: str, ranks: int, *, die_at: int | None = None) -> np.ndarray:
    """Train in processes of its own; the item vectors, empty if it was killed."""
    folder.mkdir(exist_ok=True)
    job = json.dumps({"folder": str(folder), "name": name, "die_at": die_at})
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    # Sums go by the number of threads; ranks have one each.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, __file__, "--job", job],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if die_at is not None:
        return np.empty(0, np.float32)
    if done.returncode:
        sys.exit(f"{job} at {ranks} ranks failed:\n{done.stderr[-3000:]}")
    vectors = np.load(folder / "vectors.npy")
    (folder / "vectors.npy").unlink()
    return vectors


def work(job: Mapping[str, object]) -> None:
    """One rank: train, die where told, or leave the vectors."""
    folder = Path(str(job["folder"]))
    with World.joined() as world:
        teacher = build(str(job["name"]), world)

        def step(number: int) -> Mapping[str, float]:
            if number == job["die_at"] and world.leads:
                os.kill(os.getpid(), signal.SIGKILL)
            return teacher.step(number)

        fit(
            step,
            steps=STEPS,
            seed=0,
            state=teacher.state,
            checkpoint=folder / "checkpoint",
            key="kill",
            description=str(job["name"]),
            log=lambda metrics, at: None,
            checkpoint_seconds=0.05,
            world=world,
        )
        vectors = teacher.vectors().numpy()
        if world.leads:
            np.save(folder / "vectors.npy", vectors)


def build(name: str, world: World) -> Teacher:
    """An untrained teacher."""
    users = PlantedUsers(ROWS)
    if name == "sequence":
        settings = SequenceTeacherConfig(full_softmax_up_to=0)
        return build_sequence_teacher(settings, users, seed=0, world=world)
    slots = SlotsConfig(count=5_000, admit_after=2, every=4) if name == "id in slots" else None
    return build_id_teacher(IdTeacherConfig(full_softmax_up_to=0, slots=slots), users, seed=0, world=world)


if __name__ == "__main__":
    main()
