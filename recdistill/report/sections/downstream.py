"""What downstream gains: the ranker with our features, proxies of lifetime."""

from __future__ import annotations

from typing import Any

from recdistill.contracts import names
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Cell, Figure, Fold, Row, Section, Table, Text, absent
from recdistill.report.folder import RunFolder
from recdistill.report.sections.generic import facts
from recdistill.report.sections.overview import cell, figures, subjects_table

_HORIZONS = ("lt7", "lt30")
_FITS = {
    "r2": "R²",
    "rank_correlation": "rank correlation",
    "calibration_slope": "calibration slope (1 is right)",
    "calibration_error": "calibration error, days",
}


def ranker(run: RunFolder) -> Section:
    """AUC, GAUC and log loss of every feature group, and what each adds to none."""
    title = "In a downstream ranker"
    table = run.table[run.table[names.BENCHMARK] == "ranker"]
    if table.empty:
        return absent("ranker", title, "figures of the ranker in metrics.json")
    blocks: list[Block] = [
        Text(
            "The same ranker with and without the features of each group (embedding, semantic IDs, match features). "
            "It trains on the validation window and is tested on the test window, with vectors that saw neither."
        )
    ]
    marks = []
    deltas = figures(table, ("ranker", "all", "auc_delta"))
    for group in wording.in_order(deltas, wording.GROUPS):
        delta = deltas[group]
        colour = charts.SUBJECT_COLOURS.get(group, charts.GREY)
        label = wording.GROUPS.get(group, wording.plain(group))
        low, high = (None if delta[side] is None else 100 * delta[side] for side in ("low", "high"))
        marks.append(charts.Mark(label, 100 * delta["value"], low, high, colour))
    if marks:
        said = "; ".join(f"{mark.label} {mark.value:+.2f}" for mark in marks)
        picture = charts.forest(marks, xlabel="AUC against no added features, points of per cent", zero=True)
        blocks.append(
            Figure(
                picture, f"Gain of AUC: {said}.", "What each group adds to the ranker's AUC, 95 % intervals over users."
            )
        )
    for split in wording.in_order(table[names.SPLIT].unique(), wording.SPLITS):
        there = set(table.loc[table[names.SPLIT] == split, names.METRIC])
        metrics = [
            metric
            for metric in ("auc", "auc_delta", "gauc", "gauc_delta", "logloss", "logloss_delta")
            if metric in there
        ]
        columns = [(("ranker", split, metric), wording.metric_label(metric)) for metric in metrics]
        made = subjects_table(
            table, columns, caption=wording.SPLITS.get(split, split).capitalize(), labels=wording.GROUPS
        )
        blocks.append(made if split == "all" else Fold(made.caption, (made,)))
    about: Any = run.json(run.first.relative_to(run.root), "rank", "rank.json") if run.first is not None else None
    if isinstance(about, dict):
        blocks.append(Fold("How the ranker was set up", (facts(about, without=("values", "lifetime")),)))
    return Section("ranker", title, tuple(blocks))


def lifetime(run: RunFolder) -> Section:
    """LT proxies, called proxies, with their surrogate's fit beside them."""
    title = "Lifetime proxies"
    table = run.table[run.table[names.BENCHMARK] == "lt"]
    about: Any = run.json(run.first.relative_to(run.root), "rank", "rank.json") if run.first is not None else None
    reports = about.get("lifetime", {}) if isinstance(about, dict) else {}
    if table.empty and not reports:
        return absent("lifetime", title, "lifetime figures in metrics.json")
    blocks: list[Block] = [
        Text(
            "These are proxies, not measurements. LT-n is the number of days on which a user is active within the "
            "next n; online it is measured by an A/B test. Here a surrogate index, fitted on an earlier cohort, "
            "predicts it from what the ranker's order would have changed. It holds only as far as the surrogate "
            "explains return, which its R² and calibration on a later cohort show.",
            "warning",
        )
    ]
    for horizon in _HORIZONS:
        proxy = figures(table, ("lt", "all", f"{horizon}_proxy"))
        report = reports.get(horizon)
        if proxy:
            blocks.append(_proxies(table, horizon, proxy, _surrogate(report)))
        if isinstance(report, dict):
            if report.get("reason"):
                blocks.append(Text(f"{horizon.upper()}: not computed, {report['reason']}.", "note"))
            blocks.append(Fold(f"{horizon.upper()}: the surrogate", (facts(report),)))
    fits = [
        (subject, metric, figure)
        for metric in (f"{horizon}_{fit}" for horizon in _HORIZONS for fit in _FITS)
        for subject, figure in figures(table, ("lt", "all", metric)).items()
    ]
    if fits:
        rows = tuple(
            Row(
                f"{wording.plain(subject)} · {metric.split('_')[0].upper()} · {_FITS[metric.split('_', 1)[1]]}",
                (cell("r2", figure, best=False),),
            )
            for subject, metric, figure in fits
        )
        blocks.append(
            Table(
                "How well the surrogate predicts a later cohort (naive: from recent activity alone)", ("Value",), rows
            )
        )
    if isinstance(reports.get("observed"), dict):
        caption = "What the log itself shows of return: retention after a first day, days away (Kaplan-Meier)"
        blocks.append(Fold(caption, (facts(reports["observed"]),)))
    return Section("lifetime", title, tuple(blocks))


def _proxies(table: Any, horizon: str, proxy: dict[str, dict[str, Any]], surrogate: str) -> Table:
    metric = f"{horizon}_proxy"
    delta = figures(table, ("lt", "all", f"{metric}_delta"))
    rows = []
    for group in wording.in_order(proxy, wording.GROUPS):
        change = delta.get(group)
        changed = Cell("–", tone="soft")
        if change is not None:
            changed = Cell(
                wording.number(metric, change["value"], signed=True),
                wording.interval(metric, change["low"], change["high"], signed=True),
            )
        rows.append(
            Row(
                wording.GROUPS.get(group, wording.plain(group)),
                (cell(metric, proxy[group], best=False), changed),
                emphasis=group == "student",
            )
        )
    days = horizon.removeprefix("lt")
    caption = f"Proxy of LT{days}: predicted active days among the next {days}, 95 % intervals over users.{surrogate}"
    return Table(caption, ("Days (proxy)", "Against none (proxy)"), tuple(rows), corner="Added features")


def _surrogate(report: Any) -> str:
    """The surrogate's fit, to stand beside what it predicts."""
    if not isinstance(report, dict) or "r2" not in report:
        return ""
    said = f"R² {wording.number('r2', report['r2'])}"
    if "calibration_slope" in report:
        said += f", calibration slope {wording.number('calibration_slope', report['calibration_slope'])}"
    return f" Surrogate on a later cohort: {said}."
