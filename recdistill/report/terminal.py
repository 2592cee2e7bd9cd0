"""The same figures for a terminal: one run's summary, and several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from recdistill.contracts import names
from recdistill.errors import UserError
from recdistill.evaluation import compare as paired
from recdistill.report import wording
from recdistill.report.folder import RunFolder, metrics_table
from recdistill.report.sections.overview import HEADLINE, best_of, figures, headline_columns

_RANKER = (
    *(
        (benchmark, "all", metric, f"{model} {wording.metric_label(metric)}")
        for benchmark, model in wording.RANKERS.items()
        for metric in ("auc", "gauc")
    ),
    ("lt", "all", "lt7_proxy", "LT7 (proxy)"),
)
_KEY = [names.BENCHMARK, names.SPLIT, names.METRIC]


def summary_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """What a run found, for the end of ``recdistill run``: subjects by headline benchmarks, then the ranker's groups.

    Args:
        metrics: the content of ``metrics.json``.
    """
    found = metrics_table(metrics)
    grid = Table.grid(padding=(1, 0))
    columns = headline_columns(found)
    if columns:
        caption = (
            "full ranking over the catalogue, in %; ± half of the 95 % interval over users or query items; best in bold"
        )
        grid.add_row(
            _subjects(found, columns, labels=wording.SUBJECTS, title="Students, teachers, baselines", caption=caption)
        )
    ranker = [((b, s, m), title) for b, s, m, title in _RANKER if figures(found, (b, s, m))]
    if ranker:
        caption = (
            "the same rankers with features of each group; LT is a proxy from a surrogate index, not a measurement"
        )
        grid.add_row(_subjects(found, ranker, labels=wording.GROUPS, title="Downstream", caption=caption))
    if not columns and not ranker:
        grid.add_row(Text("no figures"))
    return grid


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side; printing it with rich gives a table.

    Attributes:
        frame: benchmark, split, metric, then for each run its value, low and high, and for every run but the first the
            difference to the first with its interval (columns ``<run>/value`` …); NaN where a run lacks a figure.
        runs: names of the runs, in order.
        subject: whose figures these are.
    """

    frame: pd.DataFrame
    runs: tuple[str, ...]
    subject: str

    def __rich__(self) -> Table:
        title = f"{wording.subject_label(self.subject)} in {len(self.runs)} runs"
        caption = (
            f"95 % intervals; differences to {self.runs[0]} are paired over the users and items that both runs judged"
        )
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", show_lines=False)
        table.add_column("Benchmark · split · metric", overflow="fold")
        for at, run in enumerate(self.runs):
            table.add_column(Text(run), justify="right")
            if at:
                table.add_column(Text(f"− {self.runs[0]}"), justify="right")
        for record in self.frame.to_dict("records"):
            row = {str(key): value for key, value in record.items()}
            metric = row[names.METRIC]
            head = f"{wording.plain(row[names.BENCHMARK])} · {row[names.SPLIT]} · {wording.metric_label(metric)}"
            cells: list[Text] = []
            for at, run in enumerate(self.runs):
                cells.append(_with_interval(metric, row, run, "value", signed=False))
                if at:
                    cells.append(_with_interval(metric, row, run, "difference", signed=True))
            table.add_row(Text(head), *cells)
        return table


def compare(
    runs: Sequence[Path], *, subject: str = "student", metrics: Sequence[str] | None = None, draws: int = 1000
) -> Comparison:
    """Put one subject's figures of several run folders side by side.

    Args:
        runs: run folders with ``metrics.json``; the first is what the others are compared with.
        subject: whose figures; for the ranker the feature group of that name.
        metrics: ``benchmark/split/metric`` to show, in order; None takes the headline figures and the ranker's.
        draws: bootstrap draws behind each difference.

    Raises:
        UserError: a folder has no metrics.json, or none has figures of the subject.
    """
    folders = [RunFolder(path) for path in runs]
    for folder in folders:
        if not folder.metrics:
            raise UserError(
                f"{folder.root}: no metrics.json", remedy="give folders that `recdistill run … --out DIR` has finished"
            )
    wanted = list(metrics) if metrics is not None else ["/".join(column[:3]) for column in (*HEADLINE, *_RANKER)]
    labels = _labels([folder.root for folder in folders])
    found = [
        {key: figure for key in wanted if (figure := folder.metrics.get(f"{subject}/{key}"))} for folder in folders
    ]
    shown = [key for key in wanted if any(key in of for of in found)]
    if not shown:
        raise UserError(
            f"no run has figures of the subject '{subject}'", remedy=f"one of: {', '.join(_subjects_of(folders))}"
        )
    frame = pd.DataFrame([key.split("/") for key in shown], columns=_KEY)
    for label, folder, of in zip(labels, folders, found, strict=True):
        for part in ("value", "low", "high"):
            frame[f"{label}/{part}"] = [_number(of.get(key, {}).get(part)) for key in shown]
        if folder is not folders[0]:
            frame = frame.join(
                _differences(folders[0], folder, frame, subject=subject, labels=(labels[0], label), draws=draws)
            )
    return Comparison(frame, tuple(labels), subject)


def _differences(
    base: RunFolder, other: RunFolder, frame: pd.DataFrame, *, subject: str, labels: tuple[str, str], draws: int
) -> pd.DataFrame:
    """``other`` − ``base`` for every row of the frame; without interval where a figure does not divide by unit."""
    first, second = labels
    columns = {part: f"{second}/{part}" for part in ("difference", "difference low", "difference high")}
    plain = frame[f"{second}/value"] - frame[f"{first}/value"]
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    for stage in ("evaluate", "rank"):
        ours, theirs = other.records(stage, subject), base.records(stage, subject)
        if len(ours) and len(theirs):
            wanted = set(frame[_KEY].itertuples(index=False, name=None))
            ours, theirs = (_of(records, wanted) for records in (ours, theirs))
            rows = paired(ours, subject, subject, other=theirs, draws=draws).to_dict("records")
            known |= {tuple(row[part] for part in _KEY): row for row in rows}
    found = [known.get(tuple(key)) for key in frame[_KEY].itertuples(index=False)]
    return pd.DataFrame(
        {
            columns["difference"]: [
                row["difference"] if row else value for row, value in zip(found, plain, strict=True)
            ],
            columns["difference low"]: [row["low"] if row else math.nan for row in found],
            columns["difference high"]: [row["high"] if row else math.nan for row in found],
        },
        index=frame.index,
    )


def _of(records: pd.DataFrame, wanted: set[tuple[str, ...]]) -> pd.DataFrame:
    keys = zip(*(records[part] for part in _KEY), strict=True)
    return records[[key in wanted for key in keys]]


def _subjects(
    table: pd.DataFrame,
    columns: list[tuple[tuple[str, str, str], str]],
    *,
    labels: dict[str, str],
    title: str,
    caption: str,
) -> Table:
    found = {column: figures(table, column) for column, _ in columns}
    made = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
    )
    made.add_column("")
    for _, heading in columns:
        made.add_column(heading, justify="right")
    best = {column: best_of(found[column], column[2]) for column, _ in columns}
    for subject in wording.in_order({name for of in found.values() for name in of}, labels):
        cells = []
        for column, _ in columns:
            figure = found[column].get(subject)
            text = Text("–", style="dim") if figure is None else Text(wording.number(column[2], figure["value"]))
            if figure is not None and subject in best[column]:
                text.stylize("bold")
            if figure is not None and (half := _half(figure)) is not None:
                text.append(f" ±{wording.number(column[2], half)}", style="dim")
            cells.append(text)
        made.add_row(
            Text(labels.get(subject, wording.plain(subject)), style="bold" if subject == "student" else ""), *cells
        )
    return made


def _half(figure: Mapping[str, Any]) -> float | None:
    low, high = _number(figure.get("low")), _number(figure.get("high"))
    return (high - low) / 2 if math.isfinite(low) and math.isfinite(high) else None


def _with_interval(metric: str, row: Mapping[str, Any], run: str, part: str, *, signed: bool) -> Text:
    sides = ("low", "high") if part == "value" else ("difference low", "difference high")
    low, high = (row[f"{run}/{side}"] for side in sides)
    text = Text(wording.number(metric, row[f"{run}/{part}"], signed=signed))
    if inside := wording.interval(metric, low, high, signed=signed):
        text.append(f"\n{inside}", style="dim")
    if signed and math.isfinite(low) and (low > 0 or high < 0):
        text.stylize("green" if (low > 0) != wording.lower_is_better(metric) else "red")
    return text


def _labels(roots: list[Path]) -> list[str]:
    """The shortest endings of the paths that tell the runs apart."""
    parts = [root.resolve().parts for root in roots]
    for length in range(1, max(len(part) for part in parts) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{'/'.join(part[-1:])} ({at + 1})" for at, part in enumerate(parts)]


def _subjects_of(folders: list[RunFolder]) -> list[str]:
    return wording.in_order(
        {subject for folder in folders for subject in folder.table[names.SUBJECT]}, wording.SUBJECTS
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
