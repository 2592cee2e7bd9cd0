"""The new-item level of the exported student, chosen on the validation window.

Shapes: I items of the catalogue, n items asked about.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.retrieval.config import LevelConfig, QuestionsConfig
from recdistill.retrieval.frontier import choose_level
from recdistill.retrieval.levels import case_crossings
from recdistill.retrieval.questions import fold_cases


def unknown_items(fold: Fold, fit: Fit, item_ids: pd.Index) -> np.ndarray:
    """[n] bool: items without an interaction in the fit's training."""
    log = fold.training(fit)
    return ~item_ids.isin(log.item_ids[np.unique(log.item)])


def new_item_level(config: LevelConfig, questions: QuestionsConfig, fold: Fold, student: Path, *, seed: int) -> float:
    """The level that the settings ask for.

    Args:
        student: vectors of the selection fit, which has not seen the validation window.

    Raises:
        UserError: that table is missing or broken.
    """
    if not isinstance(config.level, str):
        return config.level
    cases = fold_cases(questions, fold, "selection", seed=seed)
    if not len(cases):
        return 0.0
    table = EmbeddingTable.read(student)
    vectors, present = table.align(cases.item_ids)
    found = case_crossings(
        vectors,
        cases,
        new=unknown_items(fold, "selection", cases.item_ids),
        cutoffs=tuple(dict.fromkeys((config.all_at, config.cold_at))),
        places=config.all_at,
        present=present,
        level=table.align_level(cases.item_ids),
    )
    return choose_level(config, found, cases.user)
