"""What went in: the data and their faults, the split and its proof of no leak, content, settings, environment."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from recdistill.report import wording
from recdistill.report.blocks import Block, Cell, Facts, Fold, Row, Section, Table, Text, absent
from recdistill.report.folder import RunFolder
from recdistill.report.sections.generic import facts

_PACKAGES = (
    "recdistill", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "transformers", "pandas", "scikit-learn",
    "mlflow", "numpy", "pyarrow",
)  # fmt: skip


def data(run: RunFolder) -> Section:
    """What ingest read, kept and warned of; what encode made of it."""
    title = "Data and content"
    found: Any = run.json("data", "validation.json")
    blocks: list[Block] = []
    if isinstance(found, dict):
        log, items = found.get("interactions") or {}, found.get("items") or {}
        blocks += [Text(warning, "warning") for warning in found.get("warnings") or []]
        if log:
            blocks.append(facts({key: value for key, value in log.items() if key != "behaviours"}))
        if log.get("behaviours"):
            rows = tuple(Row(str(name), (Cell(wording.count(count)),)) for name, count in log["behaviours"].items())
            blocks.append(Table("Positive behaviours", ("Events",), rows, corner="Behaviour"))
        if items.get("items_with"):
            total = max(1, items.get("items", 1))
            rows = tuple(
                Row(str(name), (Cell(wording.count(count)), Cell(f"{100 * count / total:.1f} %")))
                for name, count in items["items_with"].items()
            )
            blocks.append(
                Table(
                    f"Content of {wording.count(items.get('items', 0))} items",
                    ("Items with it", "Share"),
                    rows,
                    corner="Column",
                )
            )
        rest = facts(found, without=("interactions", "items", "warnings"))
        if rest.pairs:
            blocks.append(Fold("What was read and dropped", (rest,)))
    else:
        blocks.append(Text("Left out: this run folder has no data/validation.json.", "note"))
    encoded: Any = run.json("content", "encode.json")
    if isinstance(encoded, dict):
        blocks.append(Fold("Content encoding", (facts(encoded),), open=True))
    else:
        blocks.append(Text("Content encoding is left out: this run folder has no content/encode.json.", "note"))
    return Section("data", title, tuple(blocks))


def leakage(run: RunFolder) -> Section:
    """The parts of every fold, and the checks that nothing leaks between them."""
    title = "Split and leakage"
    found = [(fold, report) for fold in run.folds if isinstance(report := run.json("split", fold, "split.json"), dict)]
    if not found:
        return absent("leakage", title, "split/<fold>/split.json")
    checks = [(fold, name, holds) for fold, report in found for name, holds in (report.get("checks") or {}).items()]
    broken = [f"{fold}: {name}" for fold, name, holds in checks if not holds]
    first = found[0][1]
    blocks: list[Block] = [
        Text(f"Broken: {'; '.join(broken)}.", "warning")
        if broken
        else Text(
            f"Protocol “{first.get('protocol', 'unknown')}”, {len(found)} fold(s). All {len(checks)} leakage checks "
            "hold."
        )
    ]
    counts = list(dict.fromkeys(part for _, report in found for part in report.get("counts") or {}))
    cold = list(dict.fromkeys(role for _, report in found for role in report.get("items") or {}))
    rows = tuple(
        Row(
            fold,
            tuple(
                Cell(wording.count((report.get(of) or {}).get(part, 0)))
                for of, names in (("counts", counts), ("items", cold))
                for part in names
            ),
        )
        for fold, report in found
    )
    columns = (*(wording.plain(part) for part in counts), *(f"{wording.plain(role)} items" for role in cold))
    blocks.append(Table("Interactions in each part, and items by role", columns, rows, corner="Fold"))
    names = list(dict.fromkeys(name for _, name, _ in checks))
    by_fold = {(fold, name): holds for fold, name, holds in checks}
    held = tuple(
        Row(
            name,
            tuple(
                Cell(
                    "holds" if by_fold.get((fold, name)) else "BROKEN",
                    tone="good" if by_fold.get((fold, name)) else "bad",
                )
                for fold, _ in found
            ),
        )
        for name in names
    )
    blocks.append(Table("Leakage checks", tuple(fold for fold, _ in found), held, corner="Check"))
    return Section("leakage", title, tuple(blocks))


def settings(run: RunFolder) -> Section:
    """The recipe as it was run, and the machine and packages that made this page."""
    title = "Settings and environment"
    blocks: list[Block] = []
    top = sorted((name, tracked) for name, tracked in run.runs.items() if "/" not in name)
    if top:
        name, tracked = top[0]
        blocks.append(Fold(f"Settings of {name}, secrets left out", (Facts(tuple(sorted(tracked.params.items()))),)))
        if tracked.tags:
            blocks.append(Facts(tuple(sorted(tracked.tags.items()))))
    else:
        blocks.append(Text("Settings are left out: this run folder has no tracking/journal-*.jsonl.", "note"))
    evaluated: Any = (
        run.json(run.first.relative_to(run.root), "evaluate", "evaluate.json") if run.first is not None else None
    )
    if isinstance(evaluated, dict):
        blocks.append(
            Fold("How baselines were tuned, what was skipped, seconds", (facts(evaluated, without=("values",)),))
        )
    here = [("python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    blocks.append(Facts(tuple(here + [(name, version) for name in _PACKAGES if (version := _version(name))])))
    return Section("settings", title, tuple(blocks))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
