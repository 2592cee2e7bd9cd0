"""The table of what objectives give: figures, paired differences to the base, p after Holm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from recdistill.config import Recipe
from recdistill.contracts import names
from recdistill.contracts.records import SCHEMA
from recdistill.contracts.tables import read_table
from recdistill.evaluation import summarise
from recdistill.evaluation.benchmarks.new_items import AREA, BENCHMARK
from recdistill.evaluation.significance import Contrast, contrast, holm

BASE = "sequence_to_item"
# Heading → benchmark, metric and factor, of the split of all. Recalls are in %, the area in % of %.
FIGURES: dict[str, tuple[str, str, float]] = {
    "vanilla R@10": ("seq2item_vanilla", "recall_at_10", 1e2),
    "filtered R@10": ("seq2item_filtered", "recall_at_10", 1e2),
    "frontier area %²": (BENCHMARK, AREA, 1e4),
    "gid R@100": ("gid_i2i", "recall_at_100", 1e2),
    "content R@50": ("content_i2i", "recall_at_50", 1e2),
}


def print_table(recipe: Recipe, done: Mapping[str, Sequence[Path]], *, stale: Set[str] = frozenset()) -> None:
    """A row a subject.

    Args:
        done: subject → its files of records, one a seed and fold.
        stale: subjects whose records are of other settings, data or code than today's; they are marked.
    """
    paths = [path for of in done.values() for path in of]
    if not paths:
        print("nothing is measured yet")
        return
    records = pa.concat_tables(map(_asked, paths)).to_pandas()
    summary = summarise(records, draws=2)
    values = {(row["subject"], row["benchmark"], row["metric"]): row["value"] for row in summary.to_dict("records")}
    contrasts = differences(records, [name for name, of in done.items() if of and name != BASE])
    adjusted = dict(zip(contrasts, holm([found.p for found in contrasts.values()]), strict=True))
    table = Table(title=f"{recipe.name} {recipe.split.protocol}, validation window, seeds {list(recipe.seeds)}")
    for heading in ("file", "runs", *FIGURES):
        table.add_column(heading)
    for name, of in done.items():
        cells = []
        for heading, (benchmark, metric, scale) in FIGURES.items():
            value, found = values.get((name, benchmark, metric)), contrasts.get((name, heading))
            cells.append("–" if value is None else f"{scale * value:.2f}")
            if found is not None:
                cells[-1] += f"  {_relative(found)}  {adjusted[name, heading]:.3f}"
        table.add_row(name + (" *" if name in stale else ""), str(len(of)), *cells)
    console = Console(width=220)
    console.print(table)
    console.print(
        f"figure in %, then its relative difference to {BASE} in % with its paired 95 % interval, then p after Holm\n"
        f"over all {len(contrasts)} of them"
    )
    if stale:
        console.print(
            "* measured under other settings, data or code than today's; the command without --only does it anew"
        )


def differences(records: pd.DataFrame, subjects: Sequence[str]) -> dict[tuple[str, str], Contrast]:
    """(subject, heading) → its figure against the base's, where both have it."""
    found = {
        (name, heading): contrast(records, name, BASE, benchmark=benchmark, split="all", metric=metric)
        for name in subjects
        for heading, (benchmark, metric, _) in FIGURES.items()
    }
    return {key: one for key, one in found.items() if one is not None}


def _asked(path: Path) -> pa.Table:
    """The records that the table needs."""
    table = read_table(path).to_pandas()
    keys = pd.MultiIndex.from_frame(table[[names.BENCHMARK, names.METRIC]])
    wanted = keys.isin([figure[:2] for figure in FIGURES.values()]) & (table[names.SPLIT] == "all").to_numpy()
    return pa.Table.from_pandas(table[wanted], schema=SCHEMA, preserve_index=False)


def _relative(found: Contrast) -> str:
    of = (100 * (ratio - 1) for ratio in (found.ratio, found.low, found.high))
    return "{} [{}, {}]".format(*(f"{value:+.1f}" if math.isfinite(value) else "?" for value in of))
