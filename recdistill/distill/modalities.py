"""What modalities count in a student's skip connection: what suits raw content best on the validation window.

Shapes: I items, c content width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation.baselines.material import Material, centred
from recdistill.evaluation.baselines.tuned import make_baseline
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.config import EvaluateConfig
from recdistill.students import StudentConfig
from recdistill.students.stage import RAW_CONTENT


def modality_weights(
    student: StudentConfig, judging: EvaluateConfig, *, fold: Fold, content: Path, seed: int
) -> Mapping[str, float]:
    """Those of the ``raw_content`` baseline, made of what the skip connection has.

    Args:
        judging: its baselines say how many weights are tried, and in which range.
        content: folder with ``raw_content.parquet``.

    Returns:
        Modality → weight, the first one's (1) left out; {} where the settings say them, or no modality has a rival.
    """
    if student.skip is None or student.skip.weights is not None:
        return {}
    least = judging.seq2item.min_positive
    material = Material.of_fits(fold, content=content, teach=content, teacher="", min_positive=least)
    read = [m for m in student.reads(material["selection"].modalities) if m not in student.tuning]
    if len(read) < 2:
        return {}
    of_student = {fit: _only(of, read, content / RAW_CONTENT) for fit, of in material.items()}
    asked = seq2item(judging.seq2item, fold, "selection", seed=seed, cold=~material["selection"].known)
    made = make_baseline(
        "raw_content",
        judging.baselines,
        selection=of_student["selection"],
        final=of_student["final"],
        questions=asked,
    )
    return {} if made.chosen is None else made.chosen.settings


def _only(material: Material, modalities: Collection[str], raw: Path) -> Material:
    """The material with the content of these modalities alone, as if no other had been encoded."""
    if set(modalities) == set(material.modalities):
        return material
    vectors, _ = EmbeddingTable.read(raw).align(material.item_ids)
    columns, start = dict[str, slice](), 0
    for name, of in material.modalities.items():
        if name in modalities:
            columns[name] = slice(start, start + of.stop - of.start)
            start = columns[name].stop
    part = np.concatenate([vectors[:, material.modalities[name]] for name in columns], axis=1)
    present = np.asarray(part.any(axis=1))
    part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9)
    return replace(material, content=centred(part, present), content_present=present, modalities=columns)
