"""How fast match features are made, in how much memory, equal to a service's, and against one row at a time in numpy.

Purpose: a million impressions against the last hundred positives of their users, vectors of width 128, all columns:
from Parquet to Parquet, and in memory where the impressions of a user share histories and where none do; the same with
reactions, which look at the last three hundred events, pleasing or not; memory that a formula bounds; the same values
from the module that is served on 10,000 random impressions, to 1e-6.
Command: python experiments/benchmarks/match_features.py [--impressions 1000000] [--pairs 10000] [--sample 2000]
Time: about five minutes on two idle cores, of which the last row's impressions, a tenth, take half a minute. Memory:
2.5 GB; disk: 200 MB.
Expected: 400,000 features/s and more from file to file beside other work where users have fifty impressions each; where
each has one, thirty to forty times fewer impressions/s; with reactions two fifths of them; a peak below the formula's;
differences of at most 1e-6; the plain way tens of times slower.
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
import torch
from own_process import peak, told_by

from recdistill.contracts import names
from recdistill.contracts.tables import ROW_GROUP, EmbeddingTable
from recdistill.features.config import MatchConfig, ReactionConfig
from recdistill.features.match import MatchFeatures
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import MatchItems
from recdistill.features.match_table import write_match_features
from recdistill.features.semantic_ids import to_table
from recdistill.features.serving import export_program
from recdistill.features.space import Space

ITEMS, WIDTH, CENTRES, CODES = 20_000, 128, 64, (32, 32)
POSITIVES, DAYS, FROM_DAY = 150, 150, 110  # of a user; impressions come in the last days, after 110 positives or so
DAY = 86_400_000_000
CONFIG = MatchConfig(last=100, top_k=3, half_life_days=30.0, interests=32)
REACTION = ReactionConfig(last=300, temperatures=(0.1, 0.3))
CHUNK = 1_000_000
ROW, BLOCK, ARROW = 300, 32, 150  # bytes a row of a chunk; megabytes: see recdistill/features/match_table.py


def main() -> None:
    """Make the log, and print a row a way of matching."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--per-user", type=int, default=50, help="impressions of a user")
    parser.add_argument("--pairs", type=int, default=10_000, help="impressions that a service is asked too")
    parser.add_argument("--sample", type=int, default=2_000, help="impressions of the plain way")
    parser.add_argument("--role", choices=("files", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reactions", type=int, default=0, help=argparse.SUPPRESS)
    of = parser.parse_args()
    if of.role == "files":
        print(json.dumps(from_files(of.folder, reactions=bool(of.reactions))))
        return
    if of.role == "memory":
        print(json.dumps(in_memory(impressions=of.impressions, per_user=of.per_user)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, impressions=of.impressions, per_user=of.per_user)
        print(
            f"{'matched':<44}{'impressions':>12}{'wall s':>8}{'cpu s':>8}{'impr./s':>10}{'features/s':>12}"
            f"{'peak MiB':>10}{'bound':>7}"
        )
        show(f"file to file, {of.per_user} impressions a user", told_by(__file__, role="files", folder=folder))
        show("file to file, with reactions", told_by(__file__, role="files", folder=folder, reactions=1))
        for title, impressions, per_user in (
            ("in memory, the first", of.impressions, of.per_user),
            ("in memory, one impression a user", of.impressions // 10, 1),
        ):
            show(title, told_by(__file__, role="memory", impressions=impressions, per_user=per_user))
        against_others(folder, pairs=of.pairs, sample=of.sample)


def show(title: str, found: dict[str, Any]) -> None:
    """One row."""
    rate = found["impressions"] / found["wall"]
    print(
        f"{title:<44}{found['impressions']:>12,}{found['wall']:>8.1f}{found['cpu']:>8.1f}{rate:>10,.0f}"
        f"{rate * found['columns']:>12,.0f}{found['peak']:>10,.0f}{found['bound']:>7,.0f}",
        flush=True,
    )


def from_files(folder: Path, *, reactions: bool) -> dict[str, Any]:
    """The table API, with its peak and what the formula says it may be."""
    items = catalogue(reactions=reactions)
    columns = len(items.columns)
    before = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    events, history = [folder / "events.parquet"], [folder / "history.parquet"]
    if reactions:
        history.append(folder / "displeased.parquet")
    out = folder / ("all.parquet" if reactions else "match.parquet")
    rows = write_match_features(events, history, items, out=out, chunk_events=CHUNK)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held = min(CHUNK, sum(pq.read_metadata(path).num_rows for path in (*events, *history)))
    bound = before + held * (ROW + 4 * columns) / 2**20 + BLOCK + ARROW
    return {"impressions": rows, "columns": columns, "wall": wall, "cpu": cpu, "peak": peak(), "bound": bound}


def in_memory(*, impressions: int, per_user: int) -> dict[str, Any]:
    """The arrays alone, with their formula (that of ``MatchFeatures``, and the arrays that it is given)."""
    items = catalogue()
    columns = len(items.module.columns)
    users = impressions // per_user
    (user, item, moment), asked = log(users=users, per_user=per_user)
    before = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    match = MatchFeatures(items.module, user=user, item=item, time=moment, users=users)
    found = match(*asked)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    bound = before + (105 * len(user) + (100 + 4 * columns) * len(found)) / 2**20 + 2 * BLOCK
    return {"impressions": len(found), "columns": columns, "wall": wall, "cpu": cpu, "peak": peak(), "bound": bound}


def catalogue(*, reactions: bool = False) -> MatchItems:
    """Items around centres, with a common direction that centring takes off."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(CENTRES, WIDTH))[rng.integers(0, CENTRES, ITEMS)] + rng.normal(size=(ITEMS, WIDTH)) + 0.5
    table = EmbeddingTable(pd.Index([f"i{at:06d}" for at in range(ITEMS)]), vectors.astype(np.float32))
    codes = np.stack([rng.integers(size, size=ITEMS) for size in CODES], axis=1)
    basis = MatchBasis.fit(
        Space.of(table, table.ids, centre=True), CONFIG, seed=0, reaction=REACTION if reactions else None
    )
    return MatchItems.of(basis, table, to_table(table.ids, codes))


Events = tuple[np.ndarray, np.ndarray, np.ndarray]  # users, items, times


def log(*, users: int, per_user: int) -> tuple[Events, Events]:
    """Positives and impressions, by user."""
    rng = np.random.default_rng(2)
    return drawn(rng, users=users, count=POSITIVES), drawn(rng, users=users, count=per_user, first=FROM_DAY)


def drawn(rng: np.random.Generator, *, users: int, count: int, first: int = 0) -> Events:
    """So many events of each user, from a day on."""
    of = np.repeat(np.arange(users), count)
    return of, rng.integers(0, ITEMS, len(of)), rng.integers(first * DAY, DAYS * DAY, len(of))


def make(folder: Path, *, impressions: int, per_user: int) -> None:
    """Write both as tables, with ids as text, and as many events that did not please as did."""
    item_ids = pa.array([f"i{at:06d}" for at in range(ITEMS)])
    users = impressions // per_user
    user_ids = pa.array([f"u{at:08d}" for at in range(users)])
    others = drawn(np.random.default_rng(4), users=users, count=POSITIVES)
    parts = dict(zip(("history", "events"), log(users=users, per_user=per_user), strict=True)) | {"displeased": others}
    for name, (user, item, moment) in parts.items():
        labels = pa.array([[] if name == "displeased" else ["like"]], pa.list_(pa.string()))
        table = pa.table(
            {
                names.USER_ID: user_ids.take(pa.array(user)),
                names.ITEM_ID: item_ids.take(pa.array(item)),
                names.TIMESTAMP: pa.array(moment, pa.timestamp("us", "UTC")),
                names.BEHAVIOURS: labels.take(pa.array(np.zeros(len(user), dtype=np.int64))),
            }
        )
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROW_GROUP)


def against_others(folder: Path, *, pairs: int, sample: int) -> None:
    """Random rows of the written table, by the module, by its exported program, and one row at a time."""
    items = catalogue(reactions=True)
    columns = list(items.columns)
    rng = np.random.default_rng(3)
    table = pq.read_table(folder / "all.parquet")
    rows = table.take(pa.array(rng.choice(len(table), min(pairs, len(table)), replace=False))).to_pandas()
    keys = [names.USER_ID, names.ITEM_ID, names.TIMESTAMP]
    past = pd.concat(
        [
            pq.read_table(folder / f"{name}.parquet", columns=keys).to_pandas().assign(pleased=name == "history")
            for name in ("history", "displeased")
        ]
    )
    past["row"] = items.ids.get_indexer(past[names.ITEM_ID])
    past = past[past[names.USER_ID].isin(rows[names.USER_ID])]
    past = past.sort_values([names.USER_ID, names.TIMESTAMP, "row", "pleased"])
    of_user = dict(iter(past.groupby(names.USER_ID, observed=True)[["row", names.TIMESTAMP, "pleased"]]))

    batch = rows[columns].to_numpy()
    shape = (len(rows), 2 * POSITIVES)
    history, age, pleased = np.full(shape, -1), np.zeros(shape), np.zeros(shape, dtype=bool)
    for at, (user, moment) in enumerate(zip(rows[names.USER_ID], rows[names.TIMESTAMP], strict=True)):
        mine = of_user[user]
        history[at, : len(mine)], pleased[at, : len(mine)] = mine["row"], mine["pleased"]
        age[at, : len(mine)] = (moment - mine[names.TIMESTAMP]).to_numpy() / np.timedelta64(1, "D")
    candidates = items.ids.get_indexer(rows[names.ITEM_ID])[:, None]
    program = export_program(items.served).module()
    for name, module in (("module", items.served), ("exported program", program)):
        parts = []
        for start in range(0, len(rows), 500):
            part = [torch.from_numpy(whole[start : start + 500]) for whole in (history, age, pleased, candidates)]
            with torch.no_grad():
                parts.append(module(*part)[:, 0])
        difference = np.abs(torch.cat(parts).numpy() - batch)
        differing = [column for column, most in zip(columns, difference.max(axis=0), strict=True) if most > 0]
        print(
            f"{len(rows):,} random impressions, batch against the {name}: at most {difference.max():.1e} apart "
            f"(bits differ in: {', '.join(differing) or 'no column'})"
        )
        if not difference.max() <= 1e-6:
            raise SystemExit("batch and service differ")

    past = past[past["pleased"]]
    of_user = {user: mine[mine["pleased"]] for user, mine in of_user.items()}
    plain = [*zip(rows[names.USER_ID], rows[names.TIMESTAMP], candidates[:, 0], strict=True)][:sample]
    vectors, interest, codes = (
        buffer[:-1].numpy() for buffer in (items.module.vectors, items.module.interest, items.module.codes)
    )
    started = time.perf_counter()
    found = [
        _plainly(of_user[user], moment, item, vectors=vectors, interest=interest, codes=codes)
        for user, moment, item in plain
    ]
    of_plain = (time.perf_counter() - started) / len(plain)
    users, numbers = np.unique(past[names.USER_ID].to_numpy(dtype=str), return_inverse=True)
    match = MatchFeatures(
        items.module,
        user=numbers,
        item=past["row"].to_numpy(),
        time=past[names.TIMESTAMP].astype("int64").to_numpy(),
        users=len(users),
    )
    asked = pd.Index(users).get_indexer(pd.Index(rows[names.USER_ID].to_numpy(dtype=str)))
    started = time.perf_counter()
    ours = match(asked, candidates[:, 0], rows[names.TIMESTAMP].astype("int64").to_numpy())
    of_ours = (time.perf_counter() - started) / len(rows)
    apart = np.abs(np.array(found) - ours[: len(plain)]).max()
    print(
        f"one row at a time in pandas and numpy: {1 / of_plain:,.0f} impressions/s; here, of the same impressions "
        f"(histories hardly shared), {1 / of_ours:,.0f}: × {of_plain / of_ours:.1f}; at most {apart:.1e} apart"
    )


def _plainly(
    past: pd.DataFrame, moment: pd.Timestamp, item: int, *, vectors: np.ndarray, interest: np.ndarray, codes: np.ndarray
) -> list[float]:
    """The columns of one impression, as one would write them."""
    mine = past[past[names.TIMESTAMP] < moment].tail(CONFIG.last)
    rows = mine["row"].to_numpy()
    cosine = vectors[rows].astype(np.float64) @ vectors[item].astype(np.float64)
    days = (moment - mine[names.TIMESTAMP]).to_numpy() / np.timedelta64(1, "D")
    by_interest = pd.Series(cosine).groupby(interest[rows]).agg(["mean", "size"])
    nearest = by_interest.sort_values(["mean", "size"]).iloc[-1]
    same = np.cumprod(codes[rows] == codes[item], axis=1).mean(axis=0)
    best = np.sort(cosine)[-CONFIG.top_k :].mean()
    decayed = np.average(cosine, weights=0.5 ** (days / CONFIG.half_life_days))
    found = [cosine.mean(), cosine.max(), best, decayed, nearest["mean"], nearest["size"] / len(rows), *same, len(rows)]
    return [float(value) for value in found]


if __name__ == "__main__":
    main()
