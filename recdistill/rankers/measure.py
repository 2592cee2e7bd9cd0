"""Measuring the rankers of all groups on the same rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from recdistill.contracts.records import Records
from recdistill.rankers import metrics
from recdistill.rankers.rows import Rows

BENCHMARK = "ranker"


def measure(
    rows: Rows,
    logits: Mapping[str, np.ndarray],
    *,
    splits: Mapping[str, np.ndarray],
    user_ids: pd.Index,
    by_rows: bool,
    records: Records,
    draws: int,
    seed: int,
) -> None:
    """Add auc, gauc and logloss of every group and split to the records, and their deltas against ``none``.

    AUC is a figure of the whole with its user-bootstrap interval; GAUC and log loss are a row for each user, from which
    intervals over any pooling of folds follow; deltas are figures of the whole with paired user-bootstrap intervals.

    Args:
        logits: of each group, [n].
        splits: [n] bool of each split.
        user_ids: [U] the numbering in ``rows``.
        by_rows: weigh GAUC by a user's rows.
    """
    groups, users = list(logits), len(user_ids)
    for split, inside in splits.items():
        chosen = np.flatnonzero(inside)
        user, label = rows.user[chosen], rows.label[chosen]
        scores = np.stack([logits[group][chosen] for group in groups])
        gaucs = [metrics.gauc(user, label, one, users=users, by_rows=by_rows) for one in scores]
        losses = [metrics.mean_log_loss(user, label, one, users=users) for one in scores]
        values = {
            "auc": np.array([metrics.auc(label, one) for one in scores]),
            "gauc": np.array([part.value() for part in gaucs]),
            "logloss": np.array([part.value() for part in losses]),
        }
        drawn = metrics.bootstrap(user, label, scores, gaucs=gaucs, losses=losses, draws=draws, seed=seed)
        resampled = {"auc": drawn.auc, "gauc": drawn.gauc, "logloss": drawn.logloss}
        base = groups.index("none")
        for at, group in enumerate(groups):
            limits = metrics.interval(resampled["auc"][at])
            records.whole(group, BENCHMARK, split, "auc", float(values["auc"][at]), interval=limits)
            records.by_unit(group, BENCHMARK, split, "gauc", user_ids, gaucs[at].total, gaucs[at].count)
            records.by_unit(group, BENCHMARK, split, "logloss", user_ids, losses[at].total, losses[at].count)
            if at == base:
                continue
            for name, value in values.items():
                limits = metrics.interval(resampled[name][at] - resampled[name][base])
                records.whole(group, BENCHMARK, split, f"{name}_delta", float(value[at] - value[base]), interval=limits)
