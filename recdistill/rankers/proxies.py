"""From a ranker's scores to LT proxies: the surrogate index applied to the signals its ordering would give.

A proxy is no A/B test: it holds if the surrogate's signals carry the ranker's whole effect on return, and if what
the log shows of attention carries over to another ordering. Scores count by their order alone: a surer ranker of the
same order has the same proxy. Beside it stand the surrogate's out-of-time R² and calibration, what pleasing is worth to
it, with an interval, and the effective share of rows that the importance weights leave. The definitions are those of
:mod:`recdistill.lifetime`; the log is taken to have been looked at evenly, for rows tell no positions.
``experiments/benchmarks/lifetime/simulated_ab.py`` checks ``estimate_proxies`` against simulated A/B tests.

Memory: 130 bytes an event, and of ``estimate_proxies``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.lifetime.cohort import Events, cohort, entries
from recdistill.lifetime.config import LifetimeConfig
from recdistill.lifetime.observed import DAY
from recdistill.lifetime.plan import make_plan
from recdistill.lifetime.proxies import Proxies, estimate_proxies
from recdistill.lifetime.summary import HORIZONS, observed_return
from recdistill.lifetime.surrogate import Surrogate
from recdistill.rankers.foresight import BENCHMARK, FEWEST, judge_surrogate
from recdistill.rankers.names import NONE
from recdistill.rankers.rows import Rows


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
    test_day = int(-(-int(shown.time.min()) // DAY))
    plan = make_plan(
        first_day=int(day.min()),
        last_day=int(day.max()),
        test_day=test_day,
        horizon=asked,
        signal_days=config.signal_days,
    )
    if plan is None:
        spans = f"the log spans {np.ptp(day) + 1} days and its test window {day.max() + 1 - test_day} whole ones"
        return {"computed": False, "reason": f"{spans}: too short for half of {asked} days in two cohorts"}
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
        start=max(plan.boundary, test_day),
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
    if min(len(earlier[1]), len(later[1])) < FEWEST:
        return about | {"computed": False, "reason": f"fewer than {FEWEST} entries with an observed outcome"}
    if np.ptp(earlier[1]) == 0 or np.ptp(later[1]) == 0:
        return about | {"computed": False, "reason": "the outcome does not vary: users return alike, or never"}

    surrogate = Surrogate.fit(*earlier, horizon=plan.horizon)
    about |= {"computed": True, "mean_observed": float(later[1].mean())}
    about |= judge_surrogate(
        surrogate, events, plan, earlier, later, asked=asked, records=records, draws=draws, seed=seed
    )
    # What a ranker changes: if a slope were negative, a ranker that pleases more would be predicted fewer days.
    slopes = surrogate.slopes()
    about |= {f"days_by_{name}": slopes[name] for name in ("satisfaction", "behaviours")}
    if not len(observed.user):
        return about | {"proxies": False, "reason": "no whole signal window lies in the test window"}
    found = estimate_proxies(
        surrogate,
        earlier,
        observed,
        entry,
        behaviours=shown.behaviours,
        scores=scores,
        base=NONE,
        sharpness=config.sharpness,
        draws=draws,
        seed=seed,
    )
    return (
        about
        | _record(found, asked=asked, records=records)
        | {
            "proxies": True,
            "proxy_entries": len(observed.user),
            "proxy_users": len(np.unique(observed.user)),
        }
    )


def _record(found: Proxies, *, asked: int, records: Records) -> dict[str, Any]:
    """Add the proxies to the records; a gain has an interval there if the log shows that pleasing brings users back."""
    metric = f"lt{asked}_proxy"
    for group, days in found.days.items():
        records.whole(group, BENCHMARK, "all", metric, days.value, interval=days.interval)
    for group, gain in found.gain.items():
        limits = gain.interval if found.told else None
        records.whole(group, BENCHMARK, "all", f"{metric}_delta", gain.value, interval=limits)
    about: dict[str, Any] = {
        "days_by_pleasing": found.by_pleasing.value,
        "days_by_pleasing_interval": found.by_pleasing.interval,
        "pleasing_brings_users_back": found.told,
        "deltas": {group: {"value": of.value, "interval": of.interval} for group, of in found.gain.items()},
        "effective_share": found.effective_share,
    }
    if not found.told:
        worth = f"{found.by_pleasing.value:+.3f} days{_limits(found.by_pleasing.interval)}"
        about["caution"] = (
            f"the log does not show that pleasing brings users back (one more pleasing event a look: {worth}), so that "
            "the signs of differences between rankers mean nothing, and no interval is given of them"
        )
    return about


def _limits(limits: tuple[float, float] | None) -> str:
    return "" if limits is None else f" [{limits[0]:+.3f}, {limits[1]:+.3f}]"


def _order_matters(entry: np.ndarray, behaviours: np.ndarray) -> bool:
    """Whether the events of any entry differ in positive behaviours; else all weights give the same means."""
    inside = entry >= 0
    behaviours = behaviours[inside]
    _, first, of = np.unique(entry[inside], return_index=True, return_inverse=True)
    return bool((behaviours != behaviours[first][of]).any())
