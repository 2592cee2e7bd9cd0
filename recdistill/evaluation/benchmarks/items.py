"""I2i benchmarks as the stage asks them: pairs of items near each other to behaviour or to labels, as questions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.log import Log
from recdistill.evaluation.benchmarks.catalogue import Catalogue
from recdistill.evaluation.benchmarks.judge import Judge
from recdistill.evaluation.benchmarks.pairs import Pairs, content_pairs, copairs, gid_pairs
from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.questions import Questions


def of_items(
    config: EvaluateConfig, catalogue: Catalogue, referee: Judge, *, item_ids: pd.Index, cold: np.ndarray, seed: int
) -> dict[str, Callable[[], Questions]]:
    """I2i benchmark → its questions, when asked for."""
    of = config.i2i

    def asked(pairs: Pairs) -> Questions:
        return Questions.of_pairs(*pairs, item_ids=item_ids, cold=cold)

    def co_consumed(by_lift: bool) -> Questions:
        return asked(
            copairs(
                referee,
                item_ids,
                neighbours=of.neighbours,
                max_queries=of.max_queries,
                min_together=of.min_together,
                by_lift=by_lift,
                seed=seed,
            )
        )

    makers: dict[str, Callable[[], Questions]] = {
        "copair_i2i": lambda: co_consumed(True),
        "copair_count_i2i": lambda: co_consumed(False),
        "gid_i2i": lambda: asked(
            gid_pairs(referee, item_ids, neighbours=of.neighbours, max_queries=of.max_queries, seed=seed)
        ),
    }
    described = catalogue.described()
    if described is not None:
        makers["content_i2i"] = lambda: asked(
            content_pairs(described, item_ids, neighbours=of.neighbours, max_queries=of.max_queries, seed=seed)
        )
    return makers


def questions_of_others(
    config: EvaluateConfig,
    fold: Fold,
    make_judge: Callable[[Log], Judge],
    *,
    item_ids: pd.Index,
    cold: np.ndarray,
    seed: int,
    fit: Fit = "final",
) -> Questions | str:
    """Gid-i2i by users of whom training knows nothing, or why there is none.

    What a student learned of a known user may place items as an ID space of the very user does; strangers owe it
    nothing. Of ``folds`` the judge's users are such already: there gid_i2i is this benchmark.
    """
    log = fold.judge_of_others(fit)
    if not log.positive(config.seq2item.min_positive).any():
        return "training knows every user of the judge window"
    if len(log) == len(fold.judge(fit)):
        return "training knows no user of the judge window: gid_i2i is by others already"
    of = config.i2i
    pairs = gid_pairs(make_judge(log), item_ids, neighbours=of.neighbours, max_queries=of.max_queries, seed=seed)
    if not len(pairs[0]):
        return f"users whom training does not know judge no items (evaluate.i2i.min_support is {of.min_support})"
    return Questions.of_pairs(*pairs, item_ids=item_ids, cold=cold)
