"""Rankers of several seeds compared on the same test rows: gains, their intervals, tests, and what could be seen.

Shapes: n rows, K seeds, R draws, S rankers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student_t

from recdistill.errors import UserError
from recdistill.lifetime.intervals import interval
from recdistill.rankers import metrics
from recdistill.rankers.delong import TINY, Areas, delong
from recdistill.rankers.metrics import SEEN_AT_80
from recdistill.rankers.predictions import Predictions


@dataclass(frozen=True)
class Trained:
    """A mean over seeds of differences between trained rankers, judged over users and over trainings.

    What varies over users takes the trained rankers as given: a feature without any meaning is then "seen", since a
    ranker trained anew scores otherwise. Both variances are added as independent, and the degrees of freedom are
    Satterthwaite's (1946): users are many, seeds are few. With one seed nothing is known of trainings, and the error is
    over users alone.

    Attributes:
        value: the mean.
        error: its standard error.
        freedom: degrees of freedom, inf for the normal distribution.
    """

    value: float
    error: float
    freedom: float

    @classmethod
    def of(cls, by_seed: Sequence[float] | np.ndarray, *, over_users: float) -> Trained:
        """From the difference of each seed and the standard error of their mean over users."""
        seeds = len(by_seed)
        training = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
        total = over_users**2 + training
        freedom = (seeds - 1) * (total / training) ** 2 if training > 0 else np.inf
        return cls(float(np.mean(by_seed)), float(np.sqrt(total)), float(freedom))

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        reach = self.error * float(student_t.ppf(0.975, self.freedom))
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """Two-sided, of no difference; 1 where nothing varies and nothing differs."""
        if self.error < TINY:
            return float(abs(self.value) < TINY)
        return float(2 * student_t.sf(abs(self.value) / self.error, self.freedom))

    @property
    def detectable(self) -> float:
        """Smallest true difference that is seen at 80 % power, by the noncentral t distribution."""
        if not np.isfinite(self.freedom):
            return self.error * SEEN_AT_80
        critical = float(student_t.ppf(0.975, self.freedom))

        def missing(shift: float) -> float:
            return float(nct.sf(critical, self.freedom, shift)) - 0.8

        return self.error * float(brentq(missing, 0.0, 10 * critical))


@dataclass(frozen=True)
class Gain:
    """One ranker less another by one metric, mean over seeds.

    Attributes:
        value: the difference.
        low, high: 95 % interval by resampling users, each with the rows and scores of all seeds: it takes the trained
            rankers as given. NaN where unknown.
        by_seed: the difference of each seed.
        trained: the same difference over users and trainings, which is what a claim rests on.
        p: two-sided, of no difference, by DeLong for independent rows; NaN where it is not of AUC.
        p_by_user: the same for rows of the same users.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    trained: Trained
    p: float
    p_by_user: float


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
        low, high = interval(drawn) or (np.nan, np.nan)
        weight = np.zeros((len(self.names), seeds))
        weight[at], weight[below] = 1 / seeds, -1 / seeds
        p = [areas.test(weight.ravel()).p if areas is not None and metric == "auc" else np.nan for areas in self.areas]
        trained = Trained.of(by_seed, over_users=float(np.sqrt(np.nanvar(drawn))))
        return Gain(trained.value, low, high, tuple(by_seed.tolist()), trained, p[0], p[1])
