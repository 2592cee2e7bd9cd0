"""What the trainings of one fold read, whatever the subject and the trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recdistill.contracts.fold import Fit, Fold
from recdistill.distill.config import KERNEL_RIDGE, DistillConfig
from recdistill.distill.modalities import modality_weights
from recdistill.distill.predicted import predict
from recdistill.evaluation.config import EvaluateConfig
from recdistill.students import FeatureSource, StudentConfig, feature_source


@dataclass(frozen=True)
class Inputs:
    """What every training of the stage reads.

    Attributes:
        content: folder of the ``encode`` stage; teach, mine: folders with ``<fit>/``.
        modality_weights: what modalities count in a skip connection, where validation was to tell.
        predicted: folder with ``<fit>/kernel_ridge.parquet``, if that is among the teachers.
        pretrain: folder with ``<fit>/pretrained_student``; None: nobody starts from there.
    """

    fold: Fold
    features: FeatureSource
    content: Path
    teach: Path
    mine: Path
    predicted: Path
    pretrain: Path | None
    modality_weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def gather(
        cls,
        config: DistillConfig,
        student: StudentConfig,
        judging: EvaluateConfig,
        *,
        fold: Fold,
        item_ids: pd.Index,
        data: Path,
        content: Path,
        teach: Path,
        mine: Path,
        predicted: Path,
        pretrain: Path | None,
        seed: int,
    ) -> Inputs:
        """Those of these settings; predictions are made, and written to ``predicted``, if a trial learns from them.

        Args:
            judging: which teacher kernel ridge predicts, and how it and the modalities' weights are tuned.
            item_ids: the catalogue, in the fold's order.
            data: folder with the canonical ``items`` and ``media`` tables, which tuned towers read.

        Raises:
            UserError: an input is missing or broken.
        """
        features = feature_source(student, content=content, data=data, item_ids=item_ids)
        if KERNEL_RIDGE in {name for _, name in config.named_teachers()}:
            predict(judging, fold=fold, content=content, teach=teach, out=predicted, seed=seed)
        weights = modality_weights(student, judging, fold=fold, content=content, seed=seed)
        return cls(fold, features, content, teach, mine, predicted, pretrain, weights)

    def table(self, of: Fit, teacher: str) -> Path:
        """A teacher's table."""
        folder = self.predicted if teacher == KERNEL_RIDGE else self.teach
        return folder / of / f"{teacher}.parquet"
