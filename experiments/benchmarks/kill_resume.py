"""Kill a run with SIGKILL at random moments of teach and of distill, run the same command again, compare the metrics.

    python experiments/benchmarks/kill_resume.py [RECIPE] [--kills 5] [--seed 0] [dotted.key=value …]

Prints one line a kill: the stage, the moment, and the largest difference to the uninterrupted run's metrics.json.
Exits 1 if any metric differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOLERANCE = 1e-6


def command(recipe: str, overrides: list[str], out: Path) -> list[str]:
    return [sys.executable, "-m", "recdistill", "run", recipe, *overrides, "--out", str(out)]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def difference(one: Path, other: Path) -> float:
    """Largest absolute difference between two metrics.json; infinite if their keys differ."""
    a, b = (json.loads((out / "metrics.json").read_text()) for out in (one, other))
    if a.keys() != b.keys():
        return float("inf")
    return max(abs(a[key]["value"] - b[key]["value"]) for key in a)


def kill_in(stage: Path, share: float, seconds: float, arguments: list[str]) -> float:
    """Start the run, wait for ``stage`` and for a share of its usual time, kill it; give the wait."""
    process = start(arguments)
    while not (stage / "_running.json").exists():
        if process.poll() is not None:
            raise SystemExit(f"the run ended before {stage} began")
        time.sleep(0.02)
    wait = share * seconds
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="experiments/recipes/smoke.yaml")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--kills", type=int, default=5, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    work = Path(tempfile.mkdtemp())
    whole = work / "whole"
    subprocess.run(command(options.recipe, options.overrides, whole), check=True, stdout=subprocess.DEVNULL)
    worst = 0.0
    for name in ("teach", "distill"):
        (done,) = whole.glob(f"seed-*/*/{name}/_stage.json")
        seconds = json.loads(done.read_text())["seconds"]
        for _ in range(options.kills):
            out = work / "killed"
            # What comes before the stage is the same: begin with a copy of the run without the stage and its readers.
            shutil.copytree(whole, out)
            stage = out / done.parent.relative_to(whole)
            for later in ("teach", "mine", "distill", "evaluate", "rank")[("teach", "mine", "distill").index(name) :]:
                shutil.rmtree(stage.parent / later)
            for file in ("metrics.json", "report.html"):
                (out / file).unlink()
            waited = kill_in(stage, rng.uniform(0.05, 0.95), seconds, command(options.recipe, options.overrides, out))
            left = "finished stage" if (stage / "_stage.json").exists() else f"{sum(1 for _ in stage.rglob('*'))} files"
            subprocess.run(
                command(options.recipe, options.overrides, out),
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            found = difference(whole, out)
            worst = max(worst, found)
            print(
                f"{name:8s} killed after {waited:5.1f} of {seconds:.1f} s ({left}): largest difference {found:.2e}",
                flush=True,
            )
            shutil.rmtree(out)
    shutil.rmtree(work)
    print(f"largest difference of all: {worst:.2e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
