"""Seq2item benchmarks: questions to users over a fold's validation or test window.

Shapes: I items, P (target, past item) pairs.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from recdistill.contracts.fold import Fit, Fold
from recdistill.errors import UserError
from recdistill.evaluation.benchmarks.catalogue import Catalogue, jaccard
from recdistill.evaluation.config import Seq2ItemConfig
from recdistill.evaluation.questions import Questions
from recdistill.retrieval.cases import Agree
from recdistill.retrieval.questions import fold_cases


def seq2item(
    config: Seq2ItemConfig, fold: Fold, fit: Fit, *, seed: int, cold: np.ndarray, agree: Agree | None = None
) -> Questions:
    """Vanilla seq2item, or filtered where ``agree`` is given.

    Args:
        cold: [I] bool: items absent from this fit's training.
    """
    cases = fold_cases(
        config, fold, fit, seed=seed, last=config.last if agree is None else config.filtered_last, agree=agree
    )
    return Questions.of_users(cases, cold=cold)


def agreement(config: Seq2ItemConfig, catalogue: Catalogue, content: np.ndarray, *, seed: int) -> Agree:
    """What makes a past item agree with a target: common tags, or the same cluster of content.

    Args:
        content: [I, c] centred content, for clusters; they also stand in where no item has a tag.

    Raises:
        UserError: the tags field asked for does not exist.
    """
    if config.agree_field is not None and config.agree_field not in catalogue.tags:
        raise UserError(
            f"evaluate.seq2item.agree_field: the item table has no tags field '{config.agree_field}'",
            remedy=f"one of: {', '.join(catalogue.tags) or 'none (it has no tags)'}",
        )
    filled = [name for name, tags in catalogue.tags.items() if tags.nnz]
    if config.agree_by == "tags" and filled:
        tags = catalogue.tags[config.agree_field or filled[0]]
        return lambda target, past: jaccard(tags, target, past) > config.agree_above
    count = min(config.agree_clusters, len(content))
    clusters = MiniBatchKMeans(count, random_state=seed, n_init=1).fit_predict(content)

    def same_cluster(target: np.ndarray, past: np.ndarray) -> np.ndarray:
        return np.asarray(clusters[target] == clusters[past])

    return same_cluster
