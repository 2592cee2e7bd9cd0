"""How well return is foretold: the surrogate index, and its baseline, on entries later than those that taught them."""

from __future__ import annotations

from typing import Any

import numpy as np

from recdistill.contracts.records import Records
from recdistill.lifetime.cohort import Events
from recdistill.lifetime.intervals import interval, known
from recdistill.lifetime.naive import Naive, days_before, look_back
from recdistill.lifetime.plan import Plan
from recdistill.lifetime.signals import Signals
from recdistill.lifetime.surrogate import Surrogate, calibration, r_squared, rank_correlation
from recdistill.rankers.metrics import resample_ratio

BENCHMARK = "lt"
FEWEST = 30  # entries of a cohort


def judge_surrogate(
    surrogate: Surrogate,
    events: Events,
    plan: Plan,
    earlier: tuple[Signals, np.ndarray],
    later: tuple[Signals, np.ndarray],
    *,
    asked: int,
    records: Records,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Add to the records how a surrogate and its baseline, both fitted on an earlier cohort, do on a later one.

    Args:
        events: every event of the log.
        earlier, later: entries of the cohorts and their outcomes, which vary in either; of ``FEWEST`` entries at least.
        asked: days of the horizon by its name.

    Returns:
        the figures for rank.json, None where one is not defined.
    """
    days = look_back(earlier[0].end, first_day=plan.first_day, fewest=FEWEST)

    def active(of: Signals) -> np.ndarray:
        return days_before(events.user, events.day, at_user=of.user, end=of.end, days=days)

    seen = np.flatnonzero(earlier[0].end - days >= plan.first_day)
    naive = Naive.fit(active(earlier[0].take(seen)), earlier[1][seen], horizon=plan.horizon)
    signals, outcome = later
    predictions = {"surrogate": surrogate.predict(signals), "naive": naive.predict(active(signals))}
    about: dict[str, Any] = {"mean_predicted": float(predictions["surrogate"].mean()), "naive_days": days}
    for name, predicted in predictions.items():
        fit = calibration(outcome, predicted)
        figures = {
            "r2": r_squared(outcome, predicted),
            "rank_correlation": rank_correlation(outcome, predicted),
            "calibration_slope": fit.slope,
            "calibration_error": fit.error,
        }
        limits = _r_squared_interval(signals.user, outcome, predicted, draws=draws, seed=seed)
        prefix = "" if name == "surrogate" else "naive_"
        about[f"{prefix}r2_interval"] = limits
        for figure, value in figures.items():
            bounds = limits if figure == "r2" else None
            records.whole(name, BENCHMARK, "all", f"lt{asked}_{figure}", value, interval=bounds)
            about[prefix + figure] = known(value)
    return about


def _r_squared_interval(
    user: np.ndarray, outcome: np.ndarray, predicted: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float] | None:
    """By resampling users; the variance is taken about the whole cohort's mean."""
    _, unit = np.unique(user, return_inverse=True)
    error = np.bincount(unit, weights=(outcome - predicted) ** 2)
    spread = np.bincount(unit, weights=(outcome - outcome.mean()) ** 2)
    limits = interval(resample_ratio(error, spread, draws=draws, seed=seed))
    return None if limits is None else (1 - limits[1], 1 - limits[0])
