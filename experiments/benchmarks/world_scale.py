"""How fast the planted world is made, and in how much memory.

    python experiments/benchmarks/world_scale.py --users 100000 --items 20000

Writes the world without images and sounds into a temporary folder and prints events, seconds (wall and processor,
which differ on a busy machine), events a second, peak resident memory, bytes an event on disk, and the time that 100M
events would take at that rate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow.dataset as ds
from own_process import peak

from recdistill.ingest.synthetic import WorldConfig, write_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    large = WorldConfig.large(seed=arguments.seed).model_dump()
    config = WorldConfig(**(large | {"users": arguments.users, "items": arguments.items}))
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        write_world(config, out=Path(folder))
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        path = Path(folder) / "interactions.parquet"
        events = ds.dataset(path).count_rows()
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
    held = peak()
    print(f"{config.users:,} users x {config.items:,} items: {events:,} events in {len(files)} file(s)")
    print(f"{seconds:.1f} s, of which {worked:.1f} s on the processor: {events / seconds:,.0f} events/s")
    print(f"peak {held:,.0f} MiB resident, {size / events:.1f} bytes an event on disk")
    print(f"100M events: {1e8 * seconds / events / 60:.1f} minutes ({1e8 * worked / events / 60:.1f} on the processor)")


if __name__ == "__main__":
    main()
