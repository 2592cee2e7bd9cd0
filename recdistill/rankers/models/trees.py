"""Gradient-boosted trees (scikit-learn's HistGradientBoostingClassifier).

Shapes: n rows, c dense features, T tag columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from recdistill.errors import UserError
from recdistill.rankers.config import TreesConfig
from recdistill.rankers.inputs import How, Inputs, Scored, SparseFeature, Task


def columns(features: Sequence[SparseFeature], inputs: Inputs, *, tags: int) -> np.ndarray:
    """What the trees read: the dense columns as they are, codes as ordered numbers, the most frequent tags as 0 or 1.

    Ids of users and items are left out: their counters stand for them, and a tree cannot split thousands of names that
    have no order. Neighbouring codes are neighbours in space, so a code may be split like a number.

    Returns:
        [n, c + codes + T] float32, NaN where unknown.
    """
    found = [inputs.dense.numpy()]
    for feature, bags in zip(features, inputs.bags, strict=True):
        if feature.kind == "code":
            known = feature.offsets[bags + 1] > feature.offsets[bags]
            values = torch.cat([feature.values, feature.values.new_zeros(1)])[feature.offsets[bags]]
            found.append(torch.where(known, values.float(), torch.nan).unsqueeze(1).numpy())
        elif feature.kind == "tags":
            found.append(_indicators(feature, bags, most=tags))
    return np.hstack(found).astype(np.float32, copy=False)


def _indicators(feature: SparseFeature, bags: Tensor, *, most: int) -> np.ndarray:
    """[n, min(most, size)] float32: which of the first ids each row's bag holds."""
    bag = torch.repeat_interleave(torch.arange(len(feature.offsets) - 1), feature.offsets.diff())
    kept = feature.values < most
    table = torch.zeros((len(feature.offsets) - 1, min(most, feature.size)))
    table[bag[kept], feature.values[kept]] = 1
    return table[bags].numpy()


def train_trees(config: TreesConfig, task: Task, how: How) -> Scored:
    """Boost on the older rows until the newest stop gaining, and answer with the number of trees that was best there.

    Memory: 12 bytes a row and column beside the task.

    Raises:
        UserError: the older rows are all positive or all negative.
    """
    _check_older(task.label[task.older], rows=len(task.label))
    train, test = (columns(task.features, inputs, tags=config.tags) for inputs in (task.train, task.test))
    newest = train[task.newest]
    model = HistGradientBoostingClassifier(
        max_iter=config.trees,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.min_rows,
        l2_regularization=config.l2,
        max_features=config.features,
        early_stopping=True,
        n_iter_no_change=config.patience,
        random_state=how.seed,
    )
    model.fit(train[task.older], task.label[task.older], X_val=newest, y_val=task.label[task.newest])
    # Before the first tree and after each: minus log loss.
    for at, (fitted, held_out) in enumerate(zip(model.train_score_, model.validation_score_, strict=True)):
        how.log({"loss": -float(fitted), "validation": float(held_out)}, at)
    best = max(int(np.argmax(model.validation_score_)), 1)
    return Scored(_after(model, newest, best), _after(model, test, best), best)


def _check_older(label: np.ndarray, *, rows: int) -> None:
    if label.all() or not label.any():
        kind = "positive" if label.all() else "negative"
        raise UserError(
            f"rank: the older {len(label)} of {rows} training rows, from which trees learn, are all {kind}",
            remedy="widen the split's validation window, lower rank.validation (the share of the newest rows, which "
            "only choose the number of trees), or leave trees out of rank.models",
        )


def _after(model: HistGradientBoostingClassifier, rows: np.ndarray, trees: int) -> np.ndarray:
    """[n] float64 logits of the first so many trees: the model itself keeps those that patience was waited through."""
    staged = next(islice(model.staged_decision_function(rows), trees - 1, None))
    return np.asarray(staged, dtype=np.float64).reshape(len(rows))
