"""Seq2item benchmarks: questions to users over a fold's validation or test window.

Shapes: I items, P (target, past item) pairs.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.evaluation.benchmarks.catalogue import Catalogue, jaccard
from recdistill.evaluation.config import Seq2ItemConfig
from recdistill.evaluation.questions import Questions
from recdistill.retrieval.cases import Agree, seq2item_cases
from recdistill.retrieval.hashing import hash_ids, mix


def seq2item(
    config: Seq2ItemConfig, fold: Fold, fit: Fit, *, seed: int, cold: np.ndarray, agree: Agree | None = None
) -> Questions:
    """Vanilla seq2item, or filtered where ``agree`` is given.

    Args:
        cold: [I] bool: items absent from this fit's training.
    """
    cases = seq2item_cases(
        fold.history(fit),
        draw_users(fold.targets(fit), count=config.max_users, min_positive=config.min_positive, seed=seed),
        length=config.length,
        last=config.last if agree is None else config.filtered_last,
        max_targets=config.max_targets,
        min_positive=config.min_positive,
        min_history=config.min_history,
        seed=seed,
        agree=agree,
        exclude_history=config.exclude_history,
    )
    return Questions.of_users(cases, cold=cold)


def draw_users(log: Log, *, count: int, min_positive: int, seed: int) -> Log:
    """The log of ``count`` users drawn among those with a positive event (a function of the seed and the ids)."""
    users = np.unique(log.user[log.positive(min_positive)])
    if len(users) <= count:
        return log
    drawn = users[np.argsort(mix(seed, hash_ids(log.user_ids[users])), kind="stable")[:count]]
    return log.take(np.isin(log.user, drawn))


def agreement(config: Seq2ItemConfig, catalogue: Catalogue, content: np.ndarray, *, seed: int) -> Agree:
    """What makes a past item agree with a target: common tags, or the same cluster of content.

    Args:
        content: [I, c] centred content, for clusters; they also stand in where the items have no tags at all.

    Raises:
        UserError: the tags field asked for does not exist.
    """
    if config.agree_field is not None and config.agree_field not in catalogue.tags:
        raise UserError(
            f"evaluate.seq2item.agree_field: the item table has no tags field '{config.agree_field}'",
            remedy=f"one of: {', '.join(catalogue.tags) or 'none (it has no tags)'}",
        )
    if config.agree_by == "tags" and catalogue.tags:
        tags = catalogue.tags[config.agree_field or next(iter(catalogue.tags))]
        return lambda target, past: jaccard(tags, target, past) > config.agree_above
    count = min(config.agree_clusters, len(content))
    clusters = MiniBatchKMeans(count, random_state=seed, n_init=1).fit_predict(content)

    def same_cluster(target: np.ndarray, past: np.ndarray) -> np.ndarray:
        return np.asarray(clusters[target] == clusters[past])

    return same_cluster
