"""What modalities count in a student's skip connection: what suits raw content best on the validation window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recdistill.contracts.fold import Fold
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.baselines.tuned import make_baseline
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.config import EvaluateConfig
from recdistill.students import StudentConfig


def modality_weights(
    student: StudentConfig, judging: EvaluateConfig, *, fold: Fold, content: Path, seed: int
) -> Mapping[str, float]:
    """Those of the ``raw_content`` baseline; {} where the settings say them, or no modality has a rival.

    Args:
        judging: its baselines say how many weights are tried, and in which range.
        content: folder with ``raw_content.parquet``.
    """
    if student.skip is None or student.skip.weights is not None:
        return {}
    least = judging.seq2item.min_positive
    material = Material.of_fits(fold, content=content, teach=content, teacher="", min_positive=least)
    asked = seq2item(judging.seq2item, fold, "selection", seed=seed, cold=~material["selection"].known)
    made = make_baseline(
        "raw_content",
        judging.baselines,
        selection=material["selection"],
        final=material["final"],
        questions=asked,
    )
    return {} if made.chosen is None else made.chosen.settings
