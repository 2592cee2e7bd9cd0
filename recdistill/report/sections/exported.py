"""What downstream gets: semantic IDs and how good they are, and everything else that was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recdistill.report import wording
from recdistill.report.blocks import Block, Cell, Fold, Row, Section, Table, Text, absent
from recdistill.report.folder import RunFolder
from recdistill.report.sections.generic import facts

_METHODS = {"kmeans": "k-means", "residual_kmeans": "Residual k-means", "rqvae": "RQ-VAE"}


def exported(run: RunFolder) -> Section:
    """How well the exported codes tell items apart and keep together what is alike."""
    title = "Semantic IDs and exports"
    about: Any = run.json("export", "export.json")
    if not isinstance(about, dict):
        return absent("export", title, "export/export.json")
    blocks: list[Block] = []
    if len(run.folds) > 1:
        judged = len({part.name for part in run.parts})
        blocks.append(
            Text(
                f"The exported student is that of {about.get('provenance', {}).get('fold', run.folds[0])}, one of "
                f"{len(run.folds)} folds: it has not trained on that fold's users and items. The figures above are "
                f"of {'all' if judged == len(run.folds) else judged} folds.",
                "warning",
            )
        )
    codes = about.get("semantic_ids", {})
    if codes.get("sizes"):
        blocks += [Text(_said(codes)), _levels(codes)]
    blocks.append(Fold("Everything exported", (facts(about, without=("semantic_ids",)),)))
    return Section("export", title, tuple(blocks))


def _said(codes: Mapping[str, Any]) -> str:
    method = _METHODS.get(codes.get("method", ""), "Codebooks")
    said = (
        f"{method}: {wording.count(codes.get('items', 0))} items have {wording.count(codes.get('distinct', 0))} "
        f"distinct IDs; {_percent(codes.get('collision_rate', 0))} of the items share theirs, at most "
        f"{codes.get('largest_bucket', 0)} one ID."
    )
    near = codes.get("neighbours")
    if near:
        said += (
            f" Put in the place that its ID stands for, an item keeps {_percent(near['overlap'])} of its "
            f"{near['k']} nearest neighbours (cosine to its own place {codes['cosine']:.2f})."
        )
    stayed = codes.get("kept")
    if stayed:
        said += (
            f" Of {wording.count(stayed['items'])} items that had an ID before, {_percent(stayed['whole'])} keep it, "
            f"{_percent(stayed['levels'][0])} its first code."
        )
    return said


def _levels(codes: Mapping[str, Any]) -> Table:
    """A row a level. Neighbours and tags stand as what was found, and below it what chance would give."""
    levels = range(len(codes["sizes"]))
    columns = {
        "Codes": [Cell(wording.count(size)) for size in codes["sizes"]],
        "Used": [Cell(_percent(used)) for used in codes.get("usage", [])],
        "Perplexity": [Cell(f"{perplexity:.1f}") for perplexity in codes.get("perplexity", [])],
    }
    if near := codes.get("neighbours"):
        both = zip(near["shared"], near["chance"], strict=True)
        columns["Neighbours inside"] = [Cell(_percent(found), f"chance {_percent(chance)}") for found, chance in both]
    for field, of in codes.get("tags", {}).items():
        both = zip(of["nmi"], of["chance"], strict=True)
        columns[f"NMI with {field}"] = [Cell(f"{nmi:.3f}", f"chance {chance:.3f}") for nmi, chance in both]
    whole = {head: cells for head, cells in columns.items() if len(cells) == len(levels)}
    rows = tuple(Row(f"Level {at + 1}", tuple(cells[at] for cells in whole.values())) for at in levels)
    caption = (
        "Codebooks: perplexity is the number of codes in even use; neighbours inside: how many of an item's nearest "
        "share its codes up to this level (of k-means: its code)"
    )
    return Table(caption, tuple(whole), rows, corner="Level")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
