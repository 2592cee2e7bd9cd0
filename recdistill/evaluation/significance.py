"""How sure a comparison of two subjects is: their ratio, its interval, a paired test, what could be seen at all.

Shapes: n units, S seeds, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, permutation_test

from recdistill.contracts import names
from recdistill.evaluation.by_unit import Figure, interval, paired, ratio, tables

# Standard errors that lie between no difference and one that a two-sided test at 5 % sees four times in five.
_SEEN_AT_80_PERCENT = float(norm.ppf(0.975) + norm.ppf(0.8))


@dataclass(frozen=True)
class Contrast:
    """Subject a against subject b by one figure, on the units and seeds that both have.

    Attributes:
        a, b: their values.
        ratio, low, high: a / b and its 95 % interval.
        p: two-sided, of a = null · b.
        detectable: smallest difference, as a part of b, that so many units show at 80 % power.
        detectable_alone: the same of one seed alone, mean over seeds.
        units: judged by both.
        by_seed: the ratio in each seed that asks, in the seeds' order.
    """

    a: float
    b: float
    ratio: float
    low: float
    high: float
    p: float
    detectable: float
    detectable_alone: float
    units: int
    by_seed: tuple[float, ...]


def contrast(
    records: pd.DataFrame,
    subject_a: str,
    subject_b: str,
    *,
    benchmark: str,
    split: str,
    metric: str,
    null: float = 1.0,
    draws: int = 2000,
    flips: int = 10_000,
    seed: int = 0,
) -> Contrast | None:
    """Compare two subjects of one run by a decomposable figure; None where they have no unit in common.

    The ratio's interval is a percentile bootstrap over units, paired. The test flips the signs of the units' shares in
    a − null · b, all seeds of a unit together (Fisher's randomisation test; Efron and Tibshirani, 1993, chapter 15). It
    is of no difference where null is 1, and of no loss beyond a margin where null is below 1.

    Args:
        records: rows of ``metric_records``.
        null: ratio that is tested.
        draws: of the bootstrap.
        flips: of signs; all of them where there are no more.
        seed: of both.
    """
    of = (records[names.BENCHMARK] == benchmark) & (records[names.SPLIT] == split) & (records[names.METRIC] == metric)
    asked = records[of & records[names.SUBJECT].isin([subject_a, subject_b]) & records[names.UNIT].notna()]
    table = tables(asked).get((benchmark, split))
    if table is None or not all((subject, metric) in table.figures for subject in (subject_a, subject_b)):
        return None
    pair = paired(*(table.figure(name, metric, table.units) for name in (subject_a, subject_b)), of_one_run=True)
    if pair is None:
        return None
    a, b = (side.value() for side in pair)
    drawn = [side.drawn(draws=draws, seed=seed) for side in pair]
    low, high = interval(ratio(*drawn))
    shares = [(side.totals / side.counts.sum(axis=0)).mean(axis=1) for side in pair]
    by_seed = ratio(*(ratio(side.totals.sum(axis=0), side.counts.sum(axis=0)) for side in pair))
    return Contrast(
        a,
        b,
        a / b if b > 0 else math.nan,
        low,
        high,
        sign_flip(shares[0] - null * shares[1], flips=flips, seed=seed),
        _detectable(pair, draws=draws, seed=seed),
        float(np.mean([_detectable(one, draws=draws, seed=seed) for one in _alone(pair)])),
        len(shares[0]),
        tuple(by_seed.tolist()),
    )


def _detectable(pair: tuple[Figure, Figure], *, draws: int, seed: int) -> float:
    left, right = (side.drawn(draws=draws, seed=seed) for side in pair)
    b = pair[1].value()
    return _SEEN_AT_80_PERCENT * float(np.nanstd(left - right)) / b if b > 0 else math.nan


def _alone(pair: tuple[Figure, Figure]) -> Iterator[tuple[Figure, Figure]]:
    """The comparison by each seed alone."""
    for seed in pair[0].seeds:
        units = pair[0].take(np.ones(len(pair[0].counts), dtype=bool), [seed]).counts[:, 0] > 0
        yield pair[0].take(units, [seed]), pair[1].take(units, [seed])


def sign_flip(differences: np.ndarray, *, flips: int, seed: int) -> float:
    """Two-sided p of a sum of [n] differences under random signs; exact where 2^n are no more than ``flips``."""
    if not differences.any():
        return 1.0
    found = permutation_test(
        (differences,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=flips,
        batch=max(1, 2_000_000 // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false rejection among all is kept (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    raised = np.asarray(p, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]
