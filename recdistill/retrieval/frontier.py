"""The frontier between what all questions and what those about new items get, traced by the new-item level.

Each level gives a pair (A, C): recall of all questions and recall of the cold ones. The frontier is the upper-left
staircase of these pairs, A*(c) = max {A : C ≥ c}. Its area ∫ A*(c) dc is the hypervolume of the pairs above the origin
(Zitzler and Thiele, PPSN 1998): a product of two recalls, the same for every subject whatever the unit of its scores.

Shapes: C cases, U units (users), G levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.retrieval.config import LevelConfig
from recdistill.retrieval.levels import Crossings

LEVELS = 512


@dataclass(frozen=True)
class Frontier:
    """Recall of all and of cold questions at each of a row of levels, by unit.

    Attributes:
        levels: [G] ascending.
        units: [U] the units' numbers.
        all_hits, cold_hits: [U, G] float64.
        all_count, cold_count: [U] float64 questions.
    """

    levels: np.ndarray
    units: np.ndarray
    all_hits: np.ndarray
    cold_hits: np.ndarray
    all_count: np.ndarray
    cold_count: np.ndarray

    @classmethod
    def trace(
        cls, crossings: Crossings, unit: np.ndarray, *, all_at: int, cold_at: int, levels: int = LEVELS
    ) -> Frontier:
        """Between all critical levels, or between that many quantiles of them where they are more.

        Memory: 16·U·G bytes.

        Args:
            unit: [C] whose question each is.
            all_at, cold_at: cutoffs k of the two recalls.
        """
        at = [crossings.cutoffs.index(k) for k in (all_at, cold_at)]
        critical = np.concatenate([crossings.critical[:, at[0]], crossings.critical[crossings.new, at[1]]])
        edges = np.unique(critical[np.isfinite(critical)])
        if len(edges) > levels:
            edges = np.quantile(edges, np.linspace(0, 1, levels))
        edges = np.concatenate([edges[:1] - 1.0, edges, edges[-1:] + 1.0]) if len(edges) else np.zeros(2)
        middles = (edges[:-1] + edges[1:]) / 2
        units, row = np.unique(unit, return_inverse=True)
        everyone = np.ones(len(row), dtype=bool)

        def by_unit(cutoff: int, asked: np.ndarray) -> np.ndarray:
            columns = [
                np.bincount(row[asked], weights=crossings.hits(level, cutoff)[asked], minlength=len(units))
                for level in middles
            ]
            return np.stack(columns, axis=1)

        return cls(
            middles,
            units,
            by_unit(all_at, everyone),
            by_unit(cold_at, crossings.new),
            np.bincount(row, minlength=len(units)).astype(np.float64),
            np.bincount(row[crossings.new], minlength=len(units)).astype(np.float64),
        )

    def curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """[…, G] recall of all and of cold questions; ``weights`` [D, U] counts each unit so often (a bootstrap)."""
        weights = np.ones(len(self.units)) if weights is None else weights
        return (
            _ratio(weights @ self.all_hits, weights @ self.all_count),
            _ratio(weights @ self.cold_hits, weights @ self.cold_count),
        )

    def area(self, weights: np.ndarray | None = None) -> np.ndarray:
        """[…] area under the frontier."""
        return area(*self.curve(weights))

    def influences(self) -> np.ndarray:
        """[U] each unit's share in the area: jackknife pseudo-values, moved so that their mean is the area itself.

        Their mean has the area's sampling error to first order (Efron and Tibshirani, 1993, chapter 11), so that areas
        get intervals and pairs as any mean over users does.
        """
        whole, count = float(self.area()), len(self.units)
        without = area(
            _ratio(self.all_hits.sum(axis=0) - self.all_hits, self.all_count.sum() - self.all_count),
            _ratio(self.cold_hits.sum(axis=0) - self.cold_hits, self.cold_count.sum() - self.cold_count),
        )
        return whole + (count - 1) * (without.mean() - without)

    def best_all(self, *, cold: float) -> int:
        """The level's number with the best recall of all questions among those whose cold recall is at least ``cold``.

        Where none reaches it, the one with the highest cold recall.
        """
        everyone, new = self.curve()
        reached = new >= cold
        return int(np.argmax(np.where(reached, everyone, -1.0)) if reached.any() else np.argmax(new))


def area(everyone: np.ndarray, cold: np.ndarray) -> np.ndarray:
    """Area under the staircase of […, G] pairs whose cold recall does not fall from one to the next."""
    best = np.maximum.accumulate(everyone[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray((np.diff(cold, axis=-1, prepend=0.0) * best).sum(axis=-1))


def choose_level(config: LevelConfig, crossings: Crossings, unit: np.ndarray) -> float:
    """The new-item level that the settings ask for, given the validation window's questions.

    0 where questions about new items are to tell it and there are none.
    """
    if not isinstance(config.level, str):
        return config.level
    if config.level == "share":
        return crossings.level_of_share(config.share)
    if not crossings.new.any():
        return 0.0
    frontier = Frontier.trace(crossings, unit, all_at=config.all_at, cold_at=config.cold_at)
    everyone, cold = frontier.curve()
    kept = everyone >= config.keep * everyone.max()
    return float(frontier.levels[np.flatnonzero(kept & (cold == cold[kept].max()))[0]])


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """[…, G] of […, G] and […]; 0 where nothing is counted."""
    count = np.asarray(count, dtype=np.float64)[..., None]
    return np.divide(total, count, out=np.zeros(np.shape(total)), where=count > 0)
