"""How far true pairs stand off from random ones, before distillation and after."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Figure, Section, Text, absent
from recdistill.report.folder import RunFolder

_PANELS = (("content_student", "Before: content-only student"), ("student", "After: student"))
_KINDS = (("true", "true pairs"), ("random", "random pairs"), ("matched", "random, as popular"))


def separability(run: RunFolder) -> Section:
    """Histograms of the similarity of true and random pairs, content-only student beside student."""
    title = "True pairs against random ones"
    paths = [path for part in run.parts if (path := part / "evaluate" / "separability.parquet").exists()]
    if not paths:
        return absent("separability", title, "seed-*/<fold>/evaluate/separability.parquet")
    table = pd.concat([read_table(path).to_pandas() for path in paths], ignore_index=True)
    panels, said = [], []
    for subject, label in _PANELS:
        of = table[table[names.SUBJECT] == subject]
        samples = {word: part for kind, word in _KINDS if len(part := _similarities(of, kind))}
        if len(samples) < 2:
            continue
        auc, overlap = (
            run.metrics.get(f"{subject}/separability/all/{metric}") for metric in ("auc", "overlap_coefficient")
        )
        figures = [f"AUC {auc['value']:.3f}"] if auc else []
        figures += [f"overlap {100 * overlap['value']:.0f} %"] if overlap else []
        panels.append((label + (f"\n{', '.join(figures)}" if figures else ""), samples))
        said.append(panels[-1][0].replace("\n", ", "))
    if not panels:
        return Section("separability", title, (Text("Left out: neither student's similarities were kept.", "note"),))
    blocks: list[Block] = [
        Text(
            "A user's query and the item that the user then took (true pairs) should lie nearer than the query and "
            "an item drawn at random; “as popular” draws the random item from other users' targets. The less the "
            "curves overlap, the better."
        ),
        Figure(charts.histograms(panels), "; ".join(said) + ".", "Density of the similarity of query and item."),
    ]
    rest = [
        name
        for name in wording.in_order(table[names.SUBJECT].unique(), wording.SUBJECTS)
        if f"{name}/separability/all/auc" in run.metrics
    ]
    if rest:
        values = ", ".join(
            f"{wording.subject_label(name)} {run.metrics[f'{name}/separability/all/auc']['value']:.3f}" for name in rest
        )
        blocks.append(Text(f"AUC of every subject: {values}.", "note"))
    return Section("separability", title, tuple(blocks))


def _similarities(of: pd.DataFrame, kind: str) -> np.ndarray:
    values = of.loc[of["kind"] == kind, "similarity"].to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]
