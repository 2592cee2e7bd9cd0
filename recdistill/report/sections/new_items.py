"""What a level lifts new items to, and what it costs all items: the frontier of every subject that can place them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.evaluation.benchmarks.new_items import AREA, BENCHMARK, LEVELLED, SHARES
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Figure, Section, Text
from recdistill.report.folder import RunFolder
from recdistill.report.sections.overview import figures, subjects_table

_LOWEST = f"_share_{SHARES[0]}"
_SHOWN_SHARES = (0, 5, 10, 20, 50)


def new_items(run: RunFolder) -> Section | None:
    """The chart of frontiers and their table; no section where no subject was asked about new items."""
    table = run.table[run.table[names.BENCHMARK] == BENCHMARK]
    if table.empty:
        return None
    all_at, cold_at = (
        table.loc[(table[names.SPLIT] == split) & table[names.METRIC].str.endswith(_LOWEST), names.METRIC]
        .iloc[0]
        .removesuffix(_LOWEST)
        for split in ("all", "cold")
    )
    axes = tuple(
        f"{wording.metric_label(metric)} of {of} items, %" for metric, of in ((cold_at, "new"), (all_at, "all"))
    )
    blocks: list[Block] = [
        Text(
            "Items that training did not know have no popularity: a matter of their scores' level more than of their "
            "order. One number added to the score of each (the new-item level) gives them more of the places, and "
            "known items less. Each line is one subject at all levels; the higher and the further right, the better. "
            "Levels are counted by the share of the first places that new items then hold."
        )
    ]
    lines = {name: line for name in _subjects(table) if len((line := _line(table, name, all_at, cold_at))[0])}
    if lines:
        chosen = {name: point for name in lines if (point := _chosen(table, name, all_at, cold_at)) is not None}
        picture = charts.frontiers(
            {wording.subject_label(name): line for name, line in lines.items()},
            {wording.subject_label(name): point for name, point in chosen.items()},
            xlabel=axes[0],
            ylabel=axes[1],
        )
        said = "; ".join(
            f"{wording.subject_label(name)} {every[0]:.1f} / {new[0]:.1f} to {every[-1]:.1f} / {new[-1]:.1f}"
            for name, (new, every) in lines.items()
        )
        caption = "A point is the level as set, or as validation chose it."
        blocks.append(Figure(picture, f"All / new items, from the lowest level to the highest: {said}.", caption))
    blocks.append(_table(table, all_at, cold_at))
    return Section("new-items", "New items and the level that lifts them", tuple(blocks))


def _table(table: pd.DataFrame, all_at: str, cold_at: str) -> Any:
    sides = (("all", all_at, "all"), ("cold", cold_at, "new"))
    columns = [((BENCHMARK, "all", AREA), wording.metric_label(AREA))]
    columns += [
        ((BENCHMARK, split, metric + LEVELLED), f"{of} {wording.metric_label(metric)}, chosen level")
        for split, metric, of in sides
    ]
    for share in _SHOWN_SHARES:
        columns += [
            ((BENCHMARK, split, f"{metric}_share_{share}"), f"{of} {wording.metric_label(metric)}, {share} % new")
            for split, metric, of in sides
        ]
    there = set(zip(table[names.SPLIT], table[names.METRIC], strict=True))
    shown = [column for column in columns if column[0][1:] in there]
    caption = "Area under the frontier in %², recall in % at levels that give new items a share of the first places"
    return subjects_table(table, shown, caption=caption)


def _subjects(table: pd.DataFrame) -> list[str]:
    return wording.in_order(table[names.SUBJECT].unique(), wording.SUBJECTS)


def _line(table: pd.DataFrame, subject: str, all_at: str, cold_at: str) -> tuple[np.ndarray, np.ndarray]:
    """Recall of new and of all items at the recorded shares, in per cent."""
    of = table[table[names.SUBJECT] == subject].set_index([names.SPLIT, names.METRIC])["value"]
    pairs = [
        (of[cold], of[everyone])
        for share in SHARES
        if (cold := ("cold", f"{cold_at}_share_{share}")) in of
        and (everyone := ("all", f"{all_at}_share_{share}")) in of
    ]
    points = 100 * np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _chosen(table: pd.DataFrame, subject: str, all_at: str, cold_at: str) -> tuple[float, float] | None:
    pair = [
        figures(table, (BENCHMARK, split, metric + LEVELLED)).get(subject)
        for split, metric in (("cold", cold_at), ("all", all_at))
    ]
    if pair[0] is None or pair[1] is None:
        return None
    return 100 * float(pair[0]["value"]), 100 * float(pair[1]["value"])
