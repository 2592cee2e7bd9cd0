"""Rankers of several seeds compared on the same test rows: gains, their intervals, tests, and what could be seen.

Shapes: n rows, K seeds, R draws, S rankers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recdistill.errors import UserError
from recdistill.rankers import metrics
from recdistill.rankers.delong import Areas, delong
from recdistill.rankers.predictions import Predictions


@dataclass(frozen=True)
class Gain:
    """One ranker less another by one metric, mean over seeds.

    Attributes:
        value: the difference.
        low, high: 95 % interval by resampling users, each with the rows and scores of all seeds; NaN where unknown.
        by_seed: the difference of each seed.
        error: standard error over users and, where there are several seeds, over trainings: they are added as
            independent, since an interval over users takes the trained rankers as given.
        p: two-sided, of no difference, by DeLong for independent rows; NaN where it is not of AUC.
        p_by_user: the same for rows of the same users.
        detectable: smallest true difference that so many users and seeds show at 80 % power.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    error: float
    p: float
    p_by_user: float
    detectable: float


@dataclass(frozen=True)
class Panel:
    """Several rankers' AUC and GAUC on some test rows.

    Attributes:
        names: of the S rankers, ``<model>/<group>``.
        values: metric → [S, K].
        drawn: metric → [S, R], mean over seeds in each draw of users.
        areas: of all S · K scores, ranker by ranker, for independent rows and for rows of the same users; None where
            there are too few positives, negatives or users.
    """

    names: tuple[str, ...]
    values: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    areas: tuple[Areas | None, Areas | None]

    @classmethod
    def of(
        cls, predictions: Sequence[Predictions], names: Sequence[str], *, split: str, draws: int, seed: int = 0
    ) -> Panel:
        """Measure.

        Args:
            predictions: of K seeds, on the same rows.
            split: one of the predictions'.
            draws: of the bootstrap.

        Raises:
            UserError: the seeds were tested on different rows.

        Memory: 80 MiB, plus 8 · S · K · n bytes; time O(S · K · R · n).
        """
        first = predictions[0]
        if any(not other.rows.equals(first.rows) for other in predictions[1:]):
            raise UserError(
                "the seeds were tested on different rows: their negatives were sampled",
                remedy="compare rankers on a log with negatives of its own, or one seed at a time",
            )
        chosen = np.flatnonzero(first.splits[split])
        user, label = first.user[chosen], first.label[chosen]
        users = int(user.max(initial=-1)) + 1
        scores = np.stack([of.logits[name][chosen] for name in names for of in predictions])
        parts = [{"gauc": metrics.gauc(user, label, one, users=users, by_rows=True)} for one in scores]
        values = {
            "auc": np.array([float(metrics.auc(label, one)) for one in scores]),
            "gauc": np.array([part["gauc"].value() for part in parts]),
        }
        drawn = metrics.bootstrap(user, label, scores, parts=parts, draws=draws, seed=seed)
        shape = len(names), len(predictions)
        return cls(
            tuple(names),
            {name: value.reshape(shape) for name, value in values.items()},
            {name: value.reshape(*shape, draws).mean(axis=1) for name, value in drawn.items()},
            (delong(label, scores), delong(label, scores, user=user)),
        )

    def value(self, name: str, metric: str) -> float:
        """Mean over seeds."""
        return float(self.values[metric][self.names.index(name)].mean())

    def gain(self, name: str, base: str, *, metric: str) -> Gain:
        """``name`` less ``base``."""
        at, below = self.names.index(name), self.names.index(base)
        by_seed = self.values[metric][at] - self.values[metric][below]
        drawn = self.drawn[metric][at] - self.drawn[metric][below]
        seeds = len(by_seed)
        low, high = metrics.interval(drawn) or (np.nan, np.nan)
        weight = np.zeros((len(self.names), seeds))
        weight[at], weight[below] = 1 / seeds, -1 / seeds
        p = [areas.test(weight.ravel()).p if areas is not None and metric == "auc" else np.nan for areas in self.areas]
        of_training = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
        error = float(np.sqrt(np.nanvar(drawn) + of_training))
        return Gain(
            float(by_seed.mean()), low, high, tuple(by_seed.tolist()), error, p[0], p[1], metrics.SEEN_AT_80 * error
        )
