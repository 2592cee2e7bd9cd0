"""Sequence-to-item questions of a fold: those by which settings are chosen, and those that judge."""

from __future__ import annotations

import numpy as np

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.retrieval.cases import Agree, Cases, seq2item_cases
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.hashing import hash_ids, mix


def fold_cases(
    config: QuestionsConfig,
    fold: Fold,
    fit: Fit,
    *,
    seed: int,
    length: int | None = None,
    last: int | None = None,
    agree: Agree | None = None,
) -> Cases:
    """Questions of a fit's target window; fewer users and cases in the validation window, whose only use is choosing.

    Memory: the target window, and the drawn users' cases and what they met, 12 bytes a pair of both.

    Args:
        length, last: others than the settings', for queries in another form.
        agree: as in :func:`seq2item_cases`.
    """
    choosing = fit == "selection"
    users = min(config.validation_users, config.max_users) if choosing else config.max_users
    targets = draw_users(fold.targets(fit), count=users, min_positive=config.min_positive, seed=seed)
    asked = targets.user_ids[np.unique(targets.user)]
    cases = seq2item_cases(
        fold.history(fit, users=asked),
        targets,
        length=config.length if length is None else length,
        last=config.last if last is None else last,
        max_targets=config.max_targets,
        min_positive=config.min_positive,
        min_history=config.min_history,
        seed=seed,
        agree=agree,
        exclude_history=config.exclude_history,
    )
    if not choosing or len(cases) <= config.validation_cases:
        return cases
    draw = mix(seed, hash_ids(cases.user_ids)[cases.user], hash_ids(cases.item_ids)[cases.target])
    return cases.take(np.sort(np.argsort(draw, kind="stable")[: config.validation_cases]))


def choosing_cases(config: QuestionsConfig, fold: Fold, fit: Fit = "selection", *, seed: int) -> Cases:
    """:func:`fold_cases` for who chooses by them, and cannot without any.

    Raises:
        UserError: the window asks nothing.
    """
    cases = fold_cases(config, fold, fit, seed=seed)
    if not len(cases):
        raise UserError(
            f"the validation window asks nothing: no positive of it has {config.min_history} earlier ones of the same "
            "user",
            remedy="lower evaluate.seq2item.min_history, or widen split's validation window",
        )
    return cases


def draw_users(log: Log, *, count: int, min_positive: int, seed: int) -> Log:
    """The log of ``count`` users drawn among those with a positive event (a function of the seed and the ids)."""
    users = np.unique(log.user[log.positive(min_positive)])
    if len(users) <= count:
        return log
    drawn = users[np.argsort(mix(seed, hash_ids(log.user_ids[users])), kind="stable")[:count]]
    return log.take(np.isin(log.user, drawn))
