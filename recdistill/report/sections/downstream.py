"""What downstream gains: the ranker with our features, proxies of lifetime."""

from __future__ import annotations

from typing import Any

import pandas as pd

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
_METRICS = (
    "auc", "auc_delta", "gauc", "gauc_delta", "gauc_by_user", "gauc_by_user_delta", "logloss", "logloss_delta",
    "ece", "calibration_gap",
)  # fmt: skip


def ranker(run: RunFolder) -> Section:
    """What every feature group adds to every ranker, and each ranker's figures."""
    title = "In a downstream ranker"
    models = wording.in_order(set(run.table[names.BENCHMARK]) & set(wording.RANKERS), [*wording.RANKERS])
    if not models:
        return absent("ranker", title, "figures of the ranker in metrics.json")
    blocks: list[Block] = [
        Text(
            "The same ranker with and without the features of each group. It trains on the validation window and is "
            "tested on the test window, with vectors that saw neither. Intervals are over users and take the trained "
            "rankers as given: how far random vectors lie from zero shows what training anew does by itself."
        )
    ]
    for model in models[:1]:
        blocks += _gains_chart(run.table, model)
    if len(models) > 1:
        blocks += [_by_model(run.table, models, metric) for metric in ("auc_delta", "gauc_delta")]
    for model in models:
        tables = _tables(run.table[run.table[names.BENCHMARK] == model], model)
        if len(models) == 1:
            blocks += [tables[0], *(Fold(table.caption, (table,)) for table in tables[1:])]
        else:
            blocks.append(Fold(wording.RANKERS[model], tuple(tables)))
    about: Any = run.json(run.first.relative_to(run.root), "rank", "rank.json") if run.first is not None else None
    if isinstance(about, dict):
        blocks += _seen(about, models)
        blocks.append(Fold("How the rankers were set up", (facts(about, without=("values", "tests", "lifetime")),)))
    return Section("ranker", title, tuple(blocks))


def _gains_chart(table: pd.DataFrame, model: str) -> list[Block]:
    marks = []
    deltas = figures(table, (model, "all", "auc_delta"))
    for group in wording.in_order(deltas, wording.GROUPS):
        delta = deltas[group]
        colour = charts.SUBJECT_COLOURS.get(group, charts.GREY)
        label = wording.GROUPS.get(group, wording.plain(group))
        low, high = (None if delta[side] is None else 100 * delta[side] for side in ("low", "high"))
        marks.append(charts.Mark(label, 100 * delta["value"], low, high, colour))
    if not marks:
        return []
    name = wording.RANKERS[model]
    said = "; ".join(f"{mark.label} {mark.value:+.2f}" for mark in marks)
    picture = charts.forest(marks, xlabel="AUC against no added features, points of per cent", zero=True)
    caption = f"What each group adds to the AUC of the ranker ({name}), 95 % intervals over users."
    return [Figure(picture, f"Gain of AUC: {said}.", caption)]


def _by_model(table: pd.DataFrame, models: list[str], metric: str) -> Table:
    """Groups down, models across."""
    columns = [((model, "all", metric), wording.RANKERS[model]) for model in models]
    caption = f"{wording.metric_label(metric)} against no added features, all items; 95 % intervals over users"
    return subjects_table(table, columns, caption=caption, labels=wording.GROUPS)


def _tables(table: pd.DataFrame, model: str) -> list[Table]:
    """A table a split of one model's figures."""
    made = []
    for split in wording.in_order(table[names.SPLIT].unique(), wording.SPLITS):
        there = set(table.loc[table[names.SPLIT] == split, names.METRIC])
        columns = [((model, split, metric), wording.metric_label(metric)) for metric in _METRICS if metric in there]
        caption = wording.SPLITS.get(split, split).capitalize()
        made.append(subjects_table(table, columns, caption=caption, labels=wording.GROUPS))
    return made


def _seen(about: dict[str, Any], models: list[str]) -> list[Block]:
    """How small an effect the first seed's test users could show."""
    found = []
    for model in models:
        of = about.get("tests", {}).get(model, {}).get("all", {})
        sizes = [test["delong_by_user"]["detectable_at_80_percent"] for test in of.values() if "delong_by_user" in test]
        if sizes:
            found.append(f"{wording.RANKERS[model]} {100 * min(sizes):.2f} to {100 * max(sizes):.2f}")
    if not found:
        return []
    text = "A true gain of AUC is seen at 80 % power, with these users and one seed, from so many points on"
    return [Text(f"{text}: {'; '.join(found)}.", "note")]


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
            "explains return, which its R² and calibration on a later cohort show; intervals have its error, too.",
            "warning",
        )
    ]
    for horizon in _HORIZONS:
        proxy = figures(table, ("lt", "all", f"{horizon}_proxy"))
        report = reports.get(horizon)
        if isinstance(report, dict) and report.get("caution"):
            blocks.append(Text(f"{horizon.upper()}: {report['caution']}.", "warning"))
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
    if not isinstance(report, dict) or report.get("r2") is None:
        return ""
    said = f"R² {wording.number('r2', report['r2'])}"
    if report.get("calibration_slope") is not None:
        said += f", calibration slope {wording.number('calibration_slope', report['calibration_slope'])}"
    return f" Surrogate on a later cohort: {said}."
