"""Every benchmark's tables, and what distillation changed: student − content-only student, paired."""

from __future__ import annotations

import math

import pandas as pd

from recdistill.contracts import names
from recdistill.evaluation import compare
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Cell, Figure, Fold, Row, Section, Table, Text, Tone, absent
from recdistill.report.folder import RunFolder
from recdistill.report.sections.overview import subjects_table

_DRAWN_ELSEWHERE = (*wording.RANKERS, "lt", "new_items")
# One figure a benchmark and split is drawn; the table has the others.
_FOREST = {
    "seq2item_vanilla": {"all": "recall_at_10", "cold": "recall_at_25"},
    "seq2item_filtered": {"all": "recall_at_10", "cold": "recall_at_25"},
    "gid_i2i": {"all": "recall_at_50", "cold": "recall_at_50"},
    "copair_i2i": {"all": "recall_at_100", "cold": "recall_at_100"},
    "content_i2i": {"all": "recall_at_50"},
    "bijective": {"all": "bijective_accuracy"},
}


def differences(run: RunFolder) -> Section:
    """Student − content-only student on every benchmark, paired over the same users and query items."""
    title = "What distillation changed"
    records = run.records("evaluate", "student", "content_student")
    if records.empty:
        return absent("differences", title, "seed-*/<fold>/evaluate/metric_records.parquet")
    records = records[~records[names.METRIC].str.contains("_share_")]  # the points of a line
    found = _sorted(compare(records, "student", "content_student"))
    if found.empty:
        return Section(
            "differences", title, (Text("Left out: student and content_student were not both measured.", "note"),)
        )
    blocks: list[Block] = [
        Text(
            "Student minus content-only student: the same model, inputs and training length, with and without the "
            "knowledge of behaviour. Each difference is paired over the same users or query items, its interval "
            "drawn by resampling them."
        )
    ]
    drawn = [
        _FOREST.get(benchmark, {}).get(split) == metric
        for benchmark, split, metric in zip(
            found[names.BENCHMARK], found[names.SPLIT], found[names.METRIC], strict=True
        )
    ]
    shown = found[drawn]
    if len(shown):
        marks = [_mark(row) for _, row in shown.iterrows()]
        said = "; ".join(f"{mark.label} {mark.value:+.2f}" for mark in marks)
        caption = "Points of per cent with 95 % intervals. Green lies above zero, red below, grey is undecided."
        picture = charts.forest(marks, xlabel="student − content-only student, points of per cent", zero=True)
        blocks.append(Figure(picture, f"Differences: {said}.", caption))
    blocks.append(Fold("All differences", (_table(found),)))
    return Section("differences", title, tuple(blocks))


def tables(run: RunFolder) -> Section:
    """A table for each benchmark and split."""
    title = "All benchmarks"
    if not run.metrics:
        return absent("benchmarks", title, "metrics.json")
    table = run.table[~run.table[names.BENCHMARK].isin(_DRAWN_ELSEWHERE)]
    blocks: list[Block] = [
        Text(
            "Full ranking over the catalogue. “Warm” asks about items that training knew, “cold” about items that it "
            "did not; “among cold” ranks new items only against new items. Shares in per cent; below each value its "
            "95 % interval over users or query items; best in bold."
        )
    ]
    for at, benchmark in enumerate(wording.in_order(table[names.BENCHMARK].unique(), wording.BENCHMARKS)):
        part = table[table[names.BENCHMARK] == benchmark]
        splits = wording.in_order(part[names.SPLIT].unique(), wording.SPLITS)
        inside = tuple(_split_table(part, benchmark, split) for split in splits)
        blocks.append(Fold(wording.BENCHMARKS.get(benchmark, wording.plain(benchmark)), inside, open=at == 0))
    blocks += [
        Text(f"Not asked: {wording.BENCHMARKS.get(benchmark, wording.plain(benchmark))}: {why}.", "note")
        for benchmark, why in _left_out(run).items()
    ]
    return Section("benchmarks", title, tuple(blocks))


def _left_out(run: RunFolder) -> dict[str, str]:
    """Benchmark → why it was not asked, wherever that was so."""
    found: dict[str, str] = {}
    for part in run.parts:
        told = run.json(part.relative_to(run.root), "evaluate", "evaluate.json")
        found |= told.get("left_out", {}) if isinstance(told, dict) else {}
    return found


def _split_table(part: pd.DataFrame, benchmark: str, split: str) -> Table:
    rows = part[part[names.SPLIT] == split]
    columns = [
        ((benchmark, split, metric), wording.metric_label(metric))
        for metric in _metrics(rows[names.METRIC].unique().tolist())
    ]
    units = int(rows["units"].max()) if len(rows) else 0
    judged = f", {wording.count(units)} judged" if units else ""
    return subjects_table(part, columns, caption=f"{wording.SPLITS.get(split, split).capitalize()}{judged}")


def _metrics(found: list[str]) -> list[str]:
    return sorted(found, key=_rank)


def _rank(metric: str) -> tuple[bool, str, int]:
    """Recall by cutoff, then the others; what is among cold items only comes last."""
    stem = metric.removesuffix("_among_cold")
    name, _, cutoff = stem.rpartition("_at_")
    order = {"recall": "0", "ndcg": "1"}.get(name, f"2{stem}")
    return metric != stem, order, int(cutoff) if name and cutoff.isdigit() else 0


def _sorted(found: pd.DataFrame) -> pd.DataFrame:
    """In the order in which benchmarks, splits and metrics stand elsewhere in the report."""
    benchmarks = wording.in_order(found[names.BENCHMARK].unique(), wording.BENCHMARKS)
    splits = wording.in_order(found[names.SPLIT].unique(), wording.SPLITS)
    keys = [
        (benchmarks.index(benchmark), splits.index(split), _rank(metric))
        for benchmark, split, metric in zip(
            found[names.BENCHMARK], found[names.SPLIT], found[names.METRIC], strict=True
        )
    ]
    return found.iloc[sorted(range(len(keys)), key=keys.__getitem__)]


def _mark(row: pd.Series) -> charts.Mark:
    low, high = 100 * row["low"], 100 * row["high"]
    known = math.isfinite(low) and math.isfinite(high)
    colour = charts.GREEN if known and low > 0 else charts.RED if known and high < 0 else charts.GREY
    benchmark = row[names.BENCHMARK].removesuffix("_i2i").replace("seq2item_", "next item, ").replace("_", " ")
    split = "" if row[names.SPLIT] == "all" else f", {row[names.SPLIT]}"
    label = f"{benchmark[:1].upper()}{benchmark[1:]}{split}: {wording.metric_label(row[names.METRIC])}"
    return charts.Mark(label, 100 * row["difference"], low if known else None, high if known else None, colour)


def _table(found: pd.DataFrame) -> Table:
    rows = []
    for row in found.to_dict("records"):
        metric = row[names.METRIC]
        known = math.isfinite(row["low"]) and math.isfinite(row["high"])
        better = 0 if not known else (row["low"] > 0) - (row["high"] < 0)
        better = -better if wording.lower_is_better(metric) else better
        tone: Tone = "good" if better > 0 else "bad" if better < 0 else ""
        head = f"{wording.plain(row[names.BENCHMARK])} · {row[names.SPLIT]} · {wording.metric_label(metric)}"
        relative = "–" if not math.isfinite(row["relative"]) else f"{100 * row['relative']:+.1f} %".replace("-", "−")
        difference = Cell(
            wording.number(metric, row["difference"], signed=True),
            wording.interval(metric, row["low"], row["high"], signed=True),
            tone=tone,
        )
        values = (Cell(wording.number(metric, row["a"])), Cell(wording.number(metric, row["b"])))
        rows.append(Row(head, (*values, difference, Cell(relative), Cell(wording.count(row["units"])))))
    columns = ("Student", "Content only", "Difference", "Relative", "Judged")
    return Table(
        "Student − content-only student, every decomposable metric",
        columns,
        tuple(rows),
        corner="Benchmark · split · metric",
    )
