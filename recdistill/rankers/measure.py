"""Measuring the rankers of all groups on the same rows.

Shapes: n rows, S groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts.records import Records
from recdistill.lifetime.intervals import interval
from recdistill.rankers import metrics
from recdistill.rankers.delong import delong
from recdistill.rankers.metrics import Decomposable
from recdistill.rankers.names import NONE
from recdistill.rankers.rows import Rows

# Whose records divide by user; other splits and metrics would add rows without number for users without number.
_BY_UNIT_SPLITS = ("all", "warm", "cold")
_BY_UNIT = ("gauc", "logloss")


def activity_splits(rows: Rows, *, events: np.ndarray) -> dict[str, np.ndarray]:
    """[n] bool rows of the users of few, middling and many training events: thirds of the asked users.

    Users with equal numbers of events stay together, so that thirds may differ in size or be empty (a third and more
    of the users may be new).

    Args:
        events: [U] training events of each user.
    """
    asked = np.unique(rows.user)
    low, high = np.quantile(events[asked], [1 / 3, 2 / 3])
    own = events[rows.user]
    return {"light_users": own <= low, "medium_users": (own > low) & (own <= high), "heavy_users": own > high}


def measure(
    rows: Rows,
    logits: Mapping[str, np.ndarray],
    *,
    benchmark: str,
    splits: Mapping[str, np.ndarray],
    user_ids: pd.Index,
    records: Records,
    draws: int,
    seed: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Add every group's figures in every split to the records, and their deltas against ``none``.

    ``auc``; ``gauc``, whose users count by their rows, and ``gauc_by_user``, where all count alike; ``logloss``;
    ``ece``; ``calibration_gap``, |predicted / observed positives − 1|. GAUC and log loss of all, warm and cold items
    are a row for each user, from which intervals over any pooling of folds follow; all others are figures of the whole,
    with user-bootstrap intervals (none for ``ece``, whose resampled values are all too high). Deltas are paired.
    Intervals take the trained rankers as given; :class:`recdistill.rankers.contrast.Trained` adds what differs between
    trainings, which takes several seeds.

    Args:
        logits: of each group, [n].
        splits: [n] bool of each split.
        user_ids: [U] the numbering in ``rows``.

    Returns:
        split → group → the ratio of predicted to observed positives and, against ``none``, DeLong's test for
        independent rows and for rows of the same users; for rank.json.
    """
    groups, users = list(logits), len(user_ids)
    base, about = groups.index(NONE), dict[str, dict[str, dict[str, Any]]]()
    for split, inside in splits.items():
        chosen = np.flatnonzero(inside)
        if not len(chosen):
            continue
        user, label = rows.user[chosen], rows.label[chosen]
        scores = np.stack([logits[group][chosen] for group in groups])
        parts = [_parts(user, label, one, users=users) for one in scores]
        values = [
            {"auc": float(metrics.auc(label, one)), **{name: part.value() for name, part in of.items()}}
            for one, of in zip(scores, parts, strict=True)
        ]
        drawn = metrics.bootstrap(user, label, scores, parts=parts, draws=draws, seed=seed)
        about[split] = _tests(user, label, scores, groups=groups, base=base)
        for at, group in enumerate(groups):
            about[split][group]["predicted_by_observed"] = _finite(values[at]["calibration"])
            for name, value in values[at].items():
                if name == "calibration":
                    gap = np.abs(drawn[name][at] - 1)
                    records.whole(group, benchmark, split, "calibration_gap", abs(value - 1), interval=interval(gap))
                elif name in _BY_UNIT and split in _BY_UNIT_SPLITS:
                    part = parts[at][name]
                    records.by_unit(group, benchmark, split, name, user_ids, part.total, part.count)
                else:
                    limits = interval(drawn[name][at])
                    records.whole(group, benchmark, split, name, value, interval=limits)
                if at != base and name != "calibration":
                    limits = interval(drawn[name][at] - drawn[name][base])
                    difference = value - values[base][name]
                    records.whole(group, benchmark, split, f"{name}_delta", difference, interval=limits)
            error = metrics.expected_calibration_error(label, scores[at])
            records.whole(group, benchmark, split, "ece", error)
    return about


def _parts(user: np.ndarray, label: np.ndarray, score: np.ndarray, *, users: int) -> dict[str, Decomposable]:
    return {
        "gauc": metrics.gauc(user, label, score, users=users, by_rows=True),
        "gauc_by_user": metrics.gauc(user, label, score, users=users, by_rows=False),
        "logloss": metrics.mean_log_loss(user, label, score, users=users),
        "calibration": metrics.calibration(user, label, score, users=users),
    }


def _tests(
    user: np.ndarray, label: np.ndarray, scores: np.ndarray, *, groups: list[str], base: int
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {group: {} for group in groups}
    areas = {"delong": delong(label, scores), "delong_by_user": delong(label, scores, user=user)}
    for name, of in areas.items():
        for at, group in enumerate(groups):
            if of is not None and at != base:
                weight = np.zeros(len(groups))
                weight[[at, base]] = 1, -1
                test = of.test(weight)
                found[group][name] = {"error": test.error, "p": test.p, "detectable_at_80_percent": test.detectable}
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
