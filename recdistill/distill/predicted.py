"""A teacher that knows new items too: the ID teacher's vectors as kernel ridge predicts them from content.

It is the baseline of that name, tuned on the validation window as there; what it predicts of an item is no better for
the item's being popular, so that all predictions are trusted alike.
"""

from __future__ import annotations

from pathlib import Path

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.config import KERNEL_RIDGE
from recdistill.errors import UserError
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.baselines.tuned import make_baseline
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.subjects import VectorSubject


def predict(config: EvaluateConfig, *, fold: Fold, content: Path, teach: Path, out: Path, seed: int) -> None:
    """Write ``out/<fit>/kernel_ridge.parquet`` of every item with content.

    Args:
        config: its baselines name the teacher that is predicted, and what is tried.
        content: folder with ``raw_content.parquet``; teach: folder with ``<fit>/<teacher>.parquet``.

    Raises:
        UserError: there is no such table.
    """
    name = config.baselines.teacher
    least = config.seq2item.min_positive
    material = Material.of_fits(fold, content=content, teach=teach, teacher=name, min_positive=least)
    selection, final = material["selection"], material["final"]
    if selection.teacher is None or final.teacher is None:
        raise UserError(
            f"distill.teachers: {KERNEL_RIDGE} predicts '{name}', of which there is no table",
            remedy="set evaluate.baselines.teacher to a teacher that is made",
        )
    asked = seq2item(config.seq2item, fold, "selection", seed=seed, cold=~selection.known)
    made = make_baseline(KERNEL_RIDGE, config.baselines, selection=selection, final=final, questions=asked)
    # A regression has vectors of both.
    assert isinstance(made.selection, VectorSubject) and isinstance(made.final, VectorSubject)
    vectors: dict[Fit, VectorSubject] = {"selection": made.selection, "final": made.final}
    for fit, found in vectors.items():
        rows = found.present
        about = {"kind": KERNEL_RIDGE, "geometry": "cosine", "fit": fit, "seed": seed, "of": name}
        table = EmbeddingTable(final.item_ids[rows], found.vectors[rows], metadata=about)
        table.write(out / fit / f"{KERNEL_RIDGE}.parquet")
