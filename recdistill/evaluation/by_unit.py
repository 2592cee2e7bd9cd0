"""Metric records by unit, and how much their figures err: what summaries and comparisons share.

The bootstrap resamples units (Efron and Tibshirani, 1993, chapter 13): a unit drawn is drawn for every seed, metric and
subject alike, so differences are paired.

Shapes: n units, c columns (subject, metric, seed), S seeds, D draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names

KEY = [names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC]
LEVEL = 0.95
_DRAWN_NUMBERS = 10_000_000


@dataclass(frozen=True)
class Figure:
    """What each unit gives to one figure, seed by seed.

    Attributes:
        seeds: S seeds.
        totals, counts: [n, S] float64, zero where a unit has no record of that seed.
    """

    seeds: list[int]
    totals: np.ndarray
    counts: np.ndarray

    def take(self, units: np.ndarray, seeds: list[int]) -> Figure:
        """Some units ([n] bool) and seeds."""
        place = np.ix_(units, np.array([self.seeds.index(seed) for seed in seeds], dtype=np.int64))
        return Figure(seeds, self.totals[place], self.counts[place])

    def value(self) -> float:
        """Mean over seeds of Σ total / Σ count."""
        return float(ratio(self.totals.sum(axis=0), self.counts.sum(axis=0)).mean())

    def drawn(self, *, draws: int, seed: int) -> np.ndarray:
        """[D] the value in each draw of n units out of n."""
        return bootstrap(self.totals, self.counts, draws=draws, seed=seed).mean(axis=1)


@dataclass(frozen=True)
class Table:
    """One benchmark and split: what each unit (sorted) gives to each figure and seed.

    Attributes:
        units: [n].
        figures: (subject, metric), sorted → its columns, one a seed.
        seeds: [c] the columns' seeds.
        totals, counts: [n, c] float64, zero where a unit has no record.
    """

    units: pd.Index
    figures: dict[tuple[str, str], list[int]]
    seeds: list[int]
    totals: np.ndarray
    counts: np.ndarray

    def figure(self, subject: str, metric: str, units: pd.Index) -> Figure:
        """One figure of some of the units."""
        columns = self.figures[subject, metric]
        place = np.ix_(self.units.get_indexer(units), np.array(columns))
        return Figure([self.seeds[column] for column in columns], self.totals[place], self.counts[place])


def tables(records: pd.DataFrame) -> dict[tuple[str, str], Table]:
    """(benchmark, split), sorted → its table; units and figures are sorted too, so that draws see no row order.

    Args:
        records: rows of ``metric_records`` that have a unit.
    """
    codes, values = {}, {}
    for name in (*KEY, names.UNIT, names.SEED):
        codes[name], values[name] = pd.factorize(records[name], sort=True)
    column = (codes[names.SUBJECT] * len(values[names.METRIC]) + codes[names.METRIC]) * len(values[names.SEED])
    column = column + codes[names.SEED]
    group = codes[names.BENCHMARK] * len(values[names.SPLIT]) + codes[names.SPLIT]
    order = np.argsort(group, kind="stable")
    found, starts = np.unique(group[order], return_index=True)
    made = {}
    for number, start, stop in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=False):
        rows = order[start:stop]
        units, unit_at = np.unique(codes[names.UNIT][rows], return_inverse=True)
        columns, column_at = np.unique(column[rows], return_inverse=True)
        figures: dict[tuple[str, str], list[int]] = {}
        for at, figure in enumerate((columns // len(values[names.SEED])).tolist()):
            subject, metric = divmod(figure, len(values[names.METRIC]))
            figures.setdefault((values[names.SUBJECT][subject], values[names.METRIC][metric]), []).append(at)
        totals, counts = (
            np.bincount(
                unit_at * len(columns) + column_at,
                weights=records[name].to_numpy(np.float64)[rows],
                minlength=len(units) * len(columns),
            ).reshape(len(units), len(columns))
            for name in (names.TOTAL, names.COUNT)
        )
        benchmark, split = divmod(number, len(values[names.SPLIT]))
        key = (values[names.BENCHMARK][benchmark], values[names.SPLIT][split])
        seeds = values[names.SEED][columns % len(values[names.SEED])].tolist()
        made[key] = Table(values[names.UNIT][units], figures, seeds, totals, counts)
    return made


def paired(first: Figure, second: Figure, *, of_one_run: bool) -> tuple[Figure, Figure] | None:
    """Both sides of a comparison on what they have in common, None if that is nothing.

    Seeds of one run share their questions, and may each ask others (``split.one_fold_a_seed``): what counts there is a
    unit of a seed that both sides have. Runs need not have the same seeds: there a unit counts that both sides have in
    any seed. A seed that is left without any unit is left out.

    Args:
        first, second: of the same units.
    """
    sides = [first, second]
    if of_one_run:
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        every = np.ones(len(first.counts), dtype=bool)
        sides = [side.take(every, seeds) for side in sides]
        both = (sides[0].counts > 0) & (sides[1].counts > 0)
        sides = [Figure(side.seeds, side.totals * both, side.counts * both) for side in sides]
    have: np.ndarray = np.all([(side.counts > 0).any(axis=1) for side in sides], axis=0)
    if not have.any():
        return None
    left, right = (
        side.take(have, [seed for at, seed in enumerate(side.seeds) if (side.counts[have, at] > 0).any()])
        for side in sides
    )
    return left, right


def bootstrap(totals: np.ndarray, counts: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """[D, c] the ratio in each draw of n units out of n; NaN where a draw has no count."""
    units = len(totals)
    block = max(1, _DRAWN_NUMBERS // units)
    parts = []
    for first in range(0, draws, block):
        weights = _weights(units, first, min(block, draws - first), seed)
        parts.append(ratio(weights @ totals, weights @ counts))
    return np.concatenate(parts)


@lru_cache(maxsize=2)  # figures of one benchmark share their units
def _weights(units: int, first: int, count: int, seed: int) -> np.ndarray:
    """[count, n] float64: how often each unit is drawn in draws ``first`` and following."""
    rng = np.random.default_rng((seed, first))
    return rng.multinomial(units, np.full(units, 1 / units), size=count).astype(np.float64)


def ratio(total: Any, count: Any) -> np.ndarray:
    """Σ total / Σ count, NaN where nothing is counted."""
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Percentile interval (95 %) of [D] draws; NaN where too few of them are known to say."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < LEVEL * len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
