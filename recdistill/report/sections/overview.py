"""What came out, in a few figures and one table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from recdistill.contracts import names
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Cell, Figure, Row, Section, Table, Text, Tile, Tiles, absent
from recdistill.report.folder import RunFolder

# The columns of the headline table, here and in the terminal: what the issue of the day is judged by.
HEADLINE = (
    ("seq2item_vanilla", "all", "recall_at_10", "Next item R@10"),
    ("seq2item_vanilla", "cold", "recall_at_25", "New items R@25"),
    ("seq2item_filtered", "all", "recall_at_10", "Filtered R@10"),
    ("gid_i2i", "all", "recall_at_50", "Gid R@50"),
    ("copair_i2i", "all", "recall_at_100", "Copair R@100"),
)
_STUDENT, _CONTENT = "student", "content_student"
_DELTA = "all/auc_delta"


def overview(run: RunFolder) -> Section:
    """Tiles, a chart of the first benchmark, and the headline table."""
    if not run.metrics:
        return absent("overview", "What came out", "metrics.json")
    blocks: list[Block] = [Text(_verdict(run), "lead"), Tiles(tuple(_tiles(run)))]
    blocks += headline_chart(run.table)
    table = headline_table(run.table)
    if table is not None:
        blocks.append(table)
    return Section("overview", "What came out", tuple(blocks))


def headline_columns(table: pd.DataFrame) -> list[tuple[tuple[str, str, str], str]]:
    """The headline columns that this run has: (benchmark, split, metric) and title."""
    there = set(zip(table[names.BENCHMARK], table[names.SPLIT], table[names.METRIC], strict=True))
    return [
        ((benchmark, split, metric), title)
        for benchmark, split, metric, title in HEADLINE
        if (benchmark, split, metric) in there
    ]


def figures(table: pd.DataFrame, column: tuple[str, str, str]) -> dict[str, dict[str, Any]]:
    """Of one benchmark, split and metric: subject → its figure."""
    benchmark, split, metric = column
    rows = table[
        (table[names.BENCHMARK] == benchmark) & (table[names.SPLIT] == split) & (table[names.METRIC] == metric)
    ]
    return {str(row[names.SUBJECT]): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")}


def best_of(found: dict[str, dict[str, Any]], metric: str) -> set[str]:
    """The subjects with the best value; ties all count, and a lone subject is no best."""
    if len(found) < 2:
        return set()
    choose = min if wording.lower_is_better(metric) else max
    best = choose(figure["value"] for figure in found.values())
    return {subject for subject, figure in found.items() if figure["value"] == best}


def cell(metric: str, figure: dict[str, Any] | None, *, best: bool) -> Cell:
    """A figure with its interval; a dash where the subject was not measured."""
    if figure is None:
        return Cell("–", tone="soft")
    signed = metric.endswith("_delta")
    hint = (
        f"standard deviation over {figure['n']:.0f} seeds {wording.number(metric, figure['sd'])}"
        if figure["n"] > 1
        else ""
    )
    value = wording.number(metric, figure["value"], signed=signed)
    return Cell(value, wording.interval(metric, figure["low"], figure["high"], signed=signed), best, hint=hint)


def subjects_table(
    table: pd.DataFrame,
    columns: list[tuple[tuple[str, str, str], str]],
    *,
    caption: str,
    labels: dict[str, str] | None = None,
) -> Table:
    """Subjects down, columns across, the best of each column marked."""
    labels = labels or wording.SUBJECTS
    found = {column: figures(table, column) for column, _ in columns}
    best = {column: best_of(found[column], column[2]) for column, _ in columns}
    subjects = wording.in_order({subject for figures_of in found.values() for subject in figures_of}, labels)
    rows = [
        Row(
            labels.get(subject, wording.plain(subject)),
            tuple(cell(column[2], found[column].get(subject), best=subject in best[column]) for column, _ in columns),
            emphasis=subject == _STUDENT,
        )
        for subject in subjects
    ]
    return Table(caption, tuple(title for _, title in columns), tuple(rows))


def headline_table(table: pd.DataFrame) -> Table | None:
    """The headline table, None where no headline benchmark was run."""
    columns = headline_columns(table)
    if not columns:
        return None
    titles = [(column, f"{title}, %" if wording.is_percent(column[2]) else title) for column, title in columns]
    seeds = int(table["n"].max())
    of_seeds = f"; means of {seeds} seeds" if seeds > 1 else ""
    caption = f"Full ranking over the catalogue{of_seeds}; below each value its 95 % interval; best in bold"
    return subjects_table(table, titles, caption=caption)


def headline_chart(table: pd.DataFrame) -> list[Block]:
    """The first headline benchmark as a chart of intervals."""
    columns = headline_columns(table)
    if not columns:
        return []
    column, title = columns[0]
    found = figures(table, column)
    order = sorted(found, key=lambda subject: -found[subject]["value"])
    scale = 100 if wording.is_percent(column[2]) else 1
    marks = [
        charts.Mark(
            wording.subject_label(subject),
            scale * found[subject]["value"],
            _scaled(found[subject]["low"], scale),
            _scaled(found[subject]["high"], scale),
            charts.SUBJECT_COLOURS.get(subject, charts.GREY),
        )
        for subject in order
    ]
    said = "; ".join(f"{mark.label} {mark.value:.2f}" for mark in marks)
    caption = (
        f"{title} of every subject, with 95 % intervals over users. Student in blue, content-only student in orange."
    )
    return [
        Figure(charts.forest(marks, xlabel=f"{title}{', %' if scale == 100 else ''}"), f"{title}: {said}.", caption)
    ]


def _verdict(run: RunFolder) -> str:
    found = figures(run.table, HEADLINE[0][:3])
    student, content = found.get(_STUDENT), found.get(_CONTENT)
    if student is None or content is None:
        return "This run has no pair of student and content-only student to compare on the next item."
    metric = HEADLINE[0][2]
    of = f"{wording.number(metric, student['value'])} %{_bracket(metric, student)}"
    others = {subject: figure for subject, figure in found.items() if subject not in (_STUDENT, _CONTENT)}
    text = (
        f"Asked for the next item, the student has it among its first ten in {of} of cases; the same model trained on "
        f"content alone in {wording.number(metric, content['value'])} %{_bracket(metric, content)}."
    )
    if others:
        rival = max(others, key=lambda subject: others[subject]["value"])
        value = wording.number(metric, others[rival]["value"])
        text += f" The strongest of the others is {wording.subject_label(rival)} with {value} %."
    return text


def _tiles(run: RunFolder) -> list[Tile]:
    tiles = []
    for column, title in headline_columns(run.table):
        found = figures(run.table, column)
        if _STUDENT in found:
            own, content = found[_STUDENT], found.get(_CONTENT)
            unit = " %" if wording.is_percent(column[2]) else ""
            detail = f"content only {wording.number(column[2], content['value'])}{unit}" if content else ""
            tiles.append(Tile(f"{wording.number(column[2], own['value'])}{unit}", title, detail))
    for benchmark, model in wording.RANKERS.items():
        delta = run.metrics.get(f"{_STUDENT}/{benchmark}/{_DELTA}")
        if delta is not None:
            detail = wording.interval("auc", delta["low"], delta["high"], signed=True)
            title = f"AUC of {model}, student added"
            tiles.append(Tile(wording.number("auc", delta["value"], signed=True), title, detail))
    return tiles


def _bracket(metric: str, figure: dict[str, Any]) -> str:
    inside = wording.interval(metric, figure["low"], figure["high"])
    return f" [{inside}]" if inside else ""


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None or not math.isfinite(value) else scale * value
