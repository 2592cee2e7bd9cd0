"""How fast interests are mined, in how much memory, and against the straightforward way: pandas, user by user.

Purpose: a million users with a hundred events each, all four perspectives from a file to a file, at a million events a
second on two cores; memory that a formula bounds; the same pairs as the plain way on a sample.
Command: python experiments/benchmarks/mining.py [--users 1000000] [--sample 2000]
Time: about six minutes on two idle cores, of which four make the log. Memory: 1.5 GB; disk: 3 GB.
Expected: above 1,000,000 events/s with the report's setting (the latest positive of each user is the target, queries
from the last 1,000); fewer with every positive a target, since a user of n events then has n² / 2 entries to judge; a
peak below the formula's; a pandas groupby-apply of one perspective tens of times slower than all four here; "equal".
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from own_process import peak, told_by

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import ROW_GROUP
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import mine_pairs
from recdistill.mining.knowledge import Knowledge, item_keys
from recdistill.mining.stage import mine_fit

EVENTS, ITEMS, WIDTH, CLUSTERS = 100, 100_000, 128, 64
LABELS, CHANCES = ("click", "finish", "like", "share"), (1.0, 0.55, 0.35, 0.2)
USERS_AT_ONCE = 20_000
REPORT = {"targets_per_user": 1}
PIECE, OWN = 250, 40  # bytes an event of a partition, megabytes of a block's arrays: see recdistill/mining/stream.py


def main() -> None:
    """Make the log, and print a row a way of mining."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=2_000, help="users of the comparison, and of the default setting")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    of = parser.parse_args()
    if of.role:
        print(json.dumps(mine_all(of.folder, json.loads(of.role), threads=of.threads)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "log.parquet", users=of.users)
        make(folder / "sample.parquet", users=of.sample)
        print(f"{'mined':<44}{'events':>13}{'wall s':>8}{'cpu s':>8}{'events/s':>12}{'peak MiB':>10}{'bound':>7}")
        show("four perspectives, latest positive (report)", run(folder, of.threads, file="log.parquet", **REPORT))
        show("the same on one thread, sample", run(folder, 1, file="sample.parquet", **REPORT))
        show("four perspectives, every positive a target", run(folder, of.threads, file="sample.parquet"))
        against_pandas(folder / "sample.parquet")


def run(folder: Path, threads: int, **what: Any) -> dict[str, Any]:
    """Mine in a process of its own."""
    return told_by(__file__, folder=folder, role=json.dumps(what), threads=threads)


def show(title: str, found: dict[str, Any]) -> None:
    """One row."""
    rate = found["events"] / found["wall"]
    print(
        f"{title:<44}{found['events']:>13,}{found['wall']:>8.1f}{found['cpu']:>8.1f}{rate:>12,.0f}"
        f"{found['peak']:>10,.0f}{found['bound']:>7,.0f}",
        flush=True,
    )


def mine_all(folder: Path, what: dict[str, Any], *, threads: int) -> dict[str, Any]:
    """From file to file, with the peak and what the formula says it may be."""
    path = folder / what.pop("file")
    config = MiningConfig(threads=threads, **what)
    item_ids, known = catalogue()
    before = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    mine_fit([path], item_ids, known, config, out=folder / "out", metadata={}, seed=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pairs = pq.read_metadata(folder / "out" / "interest_pairs.parquet").num_rows
    events = pq.read_metadata(path).num_rows
    held = min(events, config.partition_events)
    of_pairs = pairs / events * held * (40 + 12 * config.length)
    bound = before + (threads + 1) * (PIECE * held / 2**20 + OWN + of_pairs / 2**20) + 150  # Arrow's own
    return {"events": events, "wall": wall, "cpu": cpu, "peak": peak(), "bound": bound, "pairs": pairs}


def catalogue() -> tuple[pd.Index, Knowledge]:
    """Ids, content and clusters of the items."""
    rng = np.random.default_rng(1)
    cluster = rng.integers(0, CLUSTERS, ITEMS)
    vectors = rng.normal(size=(CLUSTERS, WIDTH))[cluster] + rng.normal(size=(ITEMS, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = pd.Index([f"i{at:06d}" for at in range(ITEMS)])
    return ids, Knowledge(vectors.astype(np.float32), cluster, item_keys(ids))


def make(path: Path, *, users: int) -> None:
    """Write the log as the split stage leaves it: by user and time, string ids, popular items more often."""
    items = pa.array(catalogue()[0])
    masks = range(1 << len(LABELS))
    lists = pa.array([[label for bit, label in enumerate(LABELS) if mask >> bit & 1] for mask in masks])
    writer: pq.ParquetWriter | None = None
    for first in range(0, users, USERS_AT_ONCE):
        rng = np.random.default_rng(first)
        count = min(USERS_AT_ONCE, users - first)
        ids = pa.array([f"u{first + at:08d}" for at in range(count)])
        drawn = (ITEMS * rng.random(count * EVENTS, dtype=np.float32) ** 2).astype(np.int32)
        times = np.sort(rng.integers(0, 90 * 86_400, (count, EVENTS)), axis=1).ravel() + 1_700_000_000
        mask = np.zeros(count * EVENTS, dtype=np.int64)
        for bit, chance in enumerate(CHANCES):
            mask |= (rng.random(len(mask), dtype=np.float32) < chance).astype(np.int64) << bit
        table = pa.table(
            {
                names.USER_ID: ids.take(pa.array(np.repeat(np.arange(count, dtype=np.int32), EVENTS))),
                names.ITEM_ID: items.take(pa.array(np.minimum(drawn, ITEMS - 1))),
                names.TIMESTAMP: pa.array(times * 1_000_000, pa.timestamp("us", "UTC")),
                names.BEHAVIOURS: lists.take(pa.array(mask)),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROW_GROUP)
    assert writer is not None
    writer.close()


def against_pandas(path: Path) -> None:
    """One perspective by groupby-apply, and all four here, from the same log in memory; are the pairs equal?"""
    item_ids, known = catalogue()
    log = Log.read([path], item_ids=item_ids)
    one = MiningConfig(perspectives=("content_single_peak",), **REPORT)
    frame = pd.DataFrame({"user": log.user, "item": log.item, "time": log.time, "count": log.behaviour_count})
    started = time.perf_counter()
    plain = frame.groupby("user").apply(_plainly, known=known, config=one, needed=3)
    pandas_seconds = time.perf_counter() - started
    started = time.perf_counter()
    fast = mine_pairs(log, known, one, seed=0)[0]
    one_seconds = time.perf_counter() - started
    started = time.perf_counter()
    mine_pairs(log, known, MiningConfig(**REPORT), seed=0)
    four_seconds = time.perf_counter() - started
    expected = {
        log.user_ids[user]: [item_ids[at] for at in query] for user, query in plain.items() if query is not None
    }
    found = dict(zip(fast[names.USER_ID].to_pylist(), fast[names.QUERY_ITEMS].to_pylist(), strict=True))
    print(
        f"one thread, in memory, {len(log):,} events: pandas groupby-apply, one perspective "
        f"{len(log) / pandas_seconds:,.0f} events/s; here {len(log) / one_seconds:,.0f} "
        f"(× {pandas_seconds / one_seconds:.0f}), all four {len(log) / four_seconds:,.0f} "
        f"(× {pandas_seconds / four_seconds:.0f}); {len(found):,} queries "
        f"{'equal' if found == expected else 'DIFFER'}"
    )
    if found != expected:
        raise SystemExit("the fast way does not find what the plain way finds")


def _plainly(events: pd.DataFrame, *, known: Knowledge, config: MiningConfig, needed: int) -> list[int] | None:
    """The content single peak of one user: the items nearest to the latest, in time order."""
    target = events.iloc[-1]
    earlier = events[events["time"] < target["time"]].tail(config.history)
    earlier = earlier[earlier["item"] != target["item"]].drop_duplicates("item", keep="last")
    enough = earlier[earlier["count"] >= needed]
    if len(enough) < config.min_length:
        return None
    items = enough["item"].to_numpy()
    near = np.einsum("nd,d->n", known.content[items], known.content[int(target["item"])])
    best = enough.assign(near=near).nlargest(config.length, "near", keep="first")
    return best.sort_index()["item"].tolist()


if __name__ == "__main__":
    main()
