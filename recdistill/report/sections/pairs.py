"""The pair datasets of content-aware training."""

from __future__ import annotations

from typing import Any

from recdistill.report import wording
from recdistill.report.blocks import Block, Cell, Row, Section, Table, Text, absent
from recdistill.report.folder import RunFolder

_COLUMNS = ("Pairs", "Queries", "Targets", "Graded", "Without pairs because")


def pairs(run: RunFolder) -> Section | None:
    """The datasets of the first seed and fold, a table a fit; None where the recipe makes none."""
    if run.recipe.get("pairs") is None:
        return None
    title = "Pair datasets"
    found: Any = None if run.first is None else run.json(run.first.relative_to(run.root), "pair", "pairs.json")
    if not isinstance(found, dict):
        return absent("pairs", title, "seed-*/<fold>/pair/pairs.json")
    blocks: list[Block] = [
        Text(
            "What content-aware training learns from. Datasets of content draw on the whole catalogue, those of "
            "behaviour on what the fit may learn from."
        )
    ]
    for fit, datasets in found.items():
        rows = tuple(Row(wording.plain(name), _cells(of)) for name, of in datasets.items())
        blocks.append(Table(f"Datasets of the {fit} fit", _COLUMNS, rows, corner="Dataset", words=(3, 4)))
    return Section("pairs", title, tuple(blocks))


def _cells(of: dict[str, Any]) -> tuple[Cell, ...]:
    counts = tuple(Cell(wording.count(of[key])) for key in ("rows", "queries", "targets"))
    return (*counts, Cell("yes" if of["graded"] else "no"), Cell(of["why_empty"] or ""))
