"""From a ranker's scores to LT proxies: the surrogate index applied to the signals its ordering would give.

A proxy is no A/B test: it holds if the surrogate's signals carry the ranker's whole effect on return, and if what
the log shows of attention carries over to another ordering. Its surrogate's out-of-time R² and calibration stand beside
it, and the effective share of rows that its importance weights leave. The definitions are those of
:mod:`recdistill.lifetime`; the log is taken to have been looked at evenly, for rows tell no positions.
``experiments/benchmarks/lifetime/simulated_ab.py`` checks the proxies against simulated A/B tests.

Memory: 130 bytes an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.lifetime.cohort import Events, cohort, entries
from recdistill.lifetime.config import LifetimeConfig
from recdistill.lifetime.intervals import interval
from recdistill.lifetime.observed import DAY
from recdistill.lifetime.plan import make_plan
from recdistill.lifetime.policy import effective_sample_size
from recdistill.lifetime.summary import HORIZONS, observed_return
from recdistill.lifetime.surrogate import Surrogate, calibration, r_squared, rank_correlation
from recdistill.lifetime.under_policy import under_ranker
from recdistill.rankers.metrics import Decomposable, resample_ratio
from recdistill.rankers.rows import Rows

BENCHMARK = "lt"
_FEWEST = 30


def lifetime_proxies(
    config: LifetimeConfig,
    *,
    log: Log,
    rows: Rows,
    logits: Mapping[str, np.ndarray],
    category: np.ndarray,
    records: Records,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Add ``lt7_proxy``, ``lt30_proxy``, their deltas against ``none``, and the surrogates' fit to the records.

    A proxy is the mean surrogate index over entries, whose single values may leave 0 … n (``Surrogate.index``).

    Args:
        log: every event of the fold, from which LT-n is observed.
        rows: the ranker's test rows, in the log's numbering.
        logits: of each feature group, [n].
        category: [I] category of each item, for the diversity signal.

    Returns:
        What was done for each horizon, for rank.json; ``computed`` is false with a reason where nothing could be.
        ``observed`` is what the log itself shows of return.
    """
    report: dict[str, Any] = {}
    shown = rows.take(np.flatnonzero(rows.logged))
    scores = {group: logit[rows.logged] for group, logit in logits.items()}
    for asked in HORIZONS:
        report[f"lt{asked}"] = _one_horizon(
            config,
            asked,
            log=log,
            shown=shown,
            scores=scores,
            category=category,
            records=records,
            draws=draws,
            seed=seed,
        )
    best = next((part["r2"] for part in report.values() if part["computed"]), None)
    day = log.time // DAY
    report["observed"] = observed_return(log.user, day, last_day=int(day.max()))
    if best is not None:
        for group in logits:
            records.whole(group, BENCHMARK, "all", "r2", best)
    return report


def _one_horizon(
    config: LifetimeConfig,
    asked: int,
    *,
    log: Log,
    shown: Rows,
    scores: Mapping[str, np.ndarray],
    category: np.ndarray,
    records: Records,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    day = log.time // DAY
    plan = make_plan(
        first_day=int(day.min()),
        last_day=int(day.max()),
        test_day=int(-(-int(shown.time.min()) // DAY)),
        horizon=asked,
        signal_days=config.signal_days,
    )
    if plan is None:
        return {"computed": False, "reason": f"the log spans {int(np.ptp(day)) + 1} days; six are needed"}
    about: dict[str, Any] = {
        "asked_days": plan.asked,
        "observed_days": plan.horizon,
        "truncated": plan.horizon < plan.asked,
        "signal_days": plan.signal_days,
        "boundary": str(np.datetime64(plan.boundary, "D")),
    }
    events = Events(log.user, log.item, day, log.behaviour_count)
    past = events.past(users=len(log.user_ids), until=plan.boundary)
    entry, observed = entries(
        Events(shown.user, shown.item, shown.time // DAY, shown.behaviours),
        category=category,
        past=past,
        start=max(plan.boundary, int(-(-int(shown.time.min()) // DAY))),
        stop=plan.last_day + 1,
        signal_days=plan.signal_days,
    )
    if len(observed.user) and not _order_matters(entry, shown.behaviours):
        reason = "every user was shown items that pleased alike, so any ranker gives the same proxy"
        return about | {"computed": False, "reason": reason}
    earlier, later = (
        cohort(events, category=category, past=past, plan=plan, start=start, stop=stop)
        for start, stop in ((plan.first_day, plan.boundary), (plan.boundary, plan.last_day + 1))
    )
    about |= {"training_entries": len(earlier[1]), "test_entries": len(later[1])}
    if min(len(earlier[1]), len(later[1])) < _FEWEST:
        return about | {"computed": False, "reason": f"fewer than {_FEWEST} entries with an observed outcome"}
    if np.ptp(earlier[1]) == 0 or np.ptp(later[1]) == 0:
        return about | {"computed": False, "reason": "the outcome does not vary: users return alike, or never"}

    surrogate = Surrogate.fit(*earlier, horizon=plan.horizon)
    signals, outcome = later
    predictions = {"surrogate": surrogate.predict(signals), "naive": surrogate.predict_naive(signals)}
    about |= {"computed": True, "mean_observed": float(outcome.mean())}
    about["mean_predicted"] = float(predictions["surrogate"].mean())
    # What a ranker changes: if a slope were negative, a ranker that pleases more would be predicted fewer days.
    slopes = surrogate.slopes()
    about |= {f"days_by_{name}": slopes[name] for name in ("satisfaction", "behaviours")}
    for name, predicted in predictions.items():
        r2 = r_squared(outcome, predicted)
        limits = _r_squared_interval(signals.user, outcome, predicted, draws=draws, seed=seed)
        rho = rank_correlation(outcome, predicted)
        records.whole(name, BENCHMARK, "all", f"lt{asked}_r2", r2, interval=limits)
        fit = calibration(outcome, predicted)
        records.whole(name, BENCHMARK, "all", f"lt{asked}_rank_correlation", rho)
        records.whole(name, BENCHMARK, "all", f"lt{asked}_calibration_slope", fit.slope)
        records.whole(name, BENCHMARK, "all", f"lt{asked}_calibration_error", fit.error)
        prefix = "" if name == "surrogate" else "naive_"
        about |= {f"{prefix}calibration_slope": fit.slope, f"{prefix}calibration_error": fit.error}
        about |= {f"{prefix}r2": r2, f"{prefix}r2_interval": limits, f"{prefix}rank_correlation": rho}

    user = observed.user
    if not len(user):
        return about | {"proxies": False, "reason": "no whole signal window lies in the test window"}
    totals, effective = {}, {}
    for group, logit in scores.items():
        under, weight = under_ranker(
            observed,
            entry,
            logit=logit,
            behaviours=shown.behaviours,
            sharpness=config.sharpness,
            clip=config.clip,
        )
        totals[group] = np.bincount(user, weights=surrogate.index(under), minlength=len(log.user_ids))
        effective[group] = effective_sample_size(weight) / len(weight)
    count = np.bincount(user, minlength=len(log.user_ids)).astype(np.float64)
    for group, total in totals.items():
        records.by_unit(group, BENCHMARK, "all", f"lt{asked}_proxy", log.user_ids, total, count)
        if group != "none":
            delta = Decomposable(total - totals["none"], count)
            limits = interval(resample_ratio(delta.total, delta.count, draws=draws, seed=seed))
            records.whole(group, BENCHMARK, "all", f"lt{asked}_proxy_delta", delta.value(), interval=limits)
    about |= {"proxy_entries": len(user), "proxy_users": int((count > 0).sum()), "effective_share": effective}
    return about | {"proxies": True}


def _order_matters(entry: np.ndarray, behaviours: np.ndarray) -> bool:
    """Whether the events of any entry differ in positive behaviours; else all weights give the same means."""
    inside = entry >= 0
    behaviours = behaviours[inside]
    _, first, of = np.unique(entry[inside], return_index=True, return_inverse=True)
    return bool((behaviours != behaviours[first][of]).any())


def _r_squared_interval(
    user: np.ndarray, outcome: np.ndarray, predicted: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float] | None:
    """By resampling users; the variance is taken about the whole cohort's mean."""
    _, unit = np.unique(user, return_inverse=True)
    error = np.bincount(unit, weights=(outcome - predicted) ** 2)
    spread = np.bincount(unit, weights=(outcome - outcome.mean()) ** 2)
    limits = interval(resample_ratio(error, spread, draws=draws, seed=seed))
    return None if limits is None else (1 - limits[1], 1 - limits[0])
