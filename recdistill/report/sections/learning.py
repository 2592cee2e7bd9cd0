"""How teachers, students and rankers learned: curves, and what validation chose."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np

from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Figure, Fold, Section, Text
from recdistill.report.folder import RunFolder
from recdistill.report.sections.generic import facts

_STAGES = {"teach": "Teachers", "pretrain": "Content-aware training", "distill": "Students", "rank": "Rankers"}
_NAME = re.compile(r"seed-\d+/(?P<fold>[^/]+)/(?P<stage>[^/]+)$")
_POINTS = 200
_PANELS = 6

Lines = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def learning(run: RunFolder) -> Section:
    """Curves from the tracking journal, and the stages' summaries."""
    title = "How it was learned"
    blocks: list[Block] = []
    panels = _panels(run)
    for stage, label in _STAGES.items():
        if stage in panels:
            drawn = sorted(
                panels[stage].items(),
                key=lambda panel: (panel[0] not in ("validation", "loss"), panel[0] != "loss", panel[0]),
            )
            names = sorted({name for lines in panels[stage].values() for name in lines})
            alt = f"Curves of {', '.join(wording.plain(metric) for metric, _ in drawn)} by step for {', '.join(names)}."
            picture = charts.curves([(wording.plain(metric), lines) for metric, lines in drawn[:_PANELS]])
            several = any(len(repeats) > 1 for lines in panels[stage].values() for repeats in lines.values())
            repeated = " Thin lines are seeds and folds, the strong one is their mean." if several else ""
            blocks.append(Figure(picture, alt, f"{label}.{repeated}"))
        blocks += _summary(run, stage, label)
    if not panels:
        blocks.insert(
            0, Text("Curves are left out: this run folder has no tracking/journal-*.jsonl with curves.", "note")
        )
    return Section("learning", title, tuple(blocks))


def _panels(run: RunFolder) -> dict[str, dict[str, Lines]]:
    """stage → metric → curve name → its repeats over seeds and folds."""
    found: dict[str, dict[str, Lines]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for name, tracked in sorted(run.runs.items()):
        place = _NAME.match(name)
        if place is None or place["stage"] not in _STAGES:
            continue
        for key, curve in tracked.curves.items():
            prefix, _, metric = key.rpartition("/")
            if prefix.startswith("best"):
                continue
            steps = np.array(sorted(curve))
            values = np.array([curve[step][0] for step in steps])
            keep = np.isfinite(values)
            if keep.any():
                lines = found[place["stage"]][metric]
                lines[wording.plain(prefix or place["stage"]).replace("/", ", ")].append(
                    _thin(steps[keep], values[keep])
                )
    return {stage: {metric: dict(lines) for metric, lines in of.items()} for stage, of in found.items()}


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 200 points, each the mean of its neighbours."""
    if len(steps) <= _POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), _POINTS)
    return np.array([steps[group].mean() for group in groups]), np.array([values[group].mean() for group in groups])


def _summary(run: RunFolder, stage: str, label: str) -> list[Block]:
    names = {"teach": ("teachers.json",), "pretrain": ("pretrain.json",), "distill": ("distill.json",)}.get(stage, ())
    found: list[Block] = []
    for part in run.parts[:1]:
        for name in names:
            summary: Any = run.json(part.relative_to(run.root), stage, name)
            if isinstance(summary, dict):
                where = " · ".join(part.relative_to(run.root).parts)
                found.append(
                    Fold(f"{label}: what was chosen ({where})", (facts(summary, without=("curve", "curves")),))
                )
    return found
