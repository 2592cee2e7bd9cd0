"""How well lifetime proxies foretell simulated A/B tests.

Purpose: in a planted world, switch the platform's ranker for each of about thirty others (same users, same random
streams), measure what that truly changes in LT7 and LT30, and compare with what the base ranker's log of the days
before foretold: the surrogate index's slope times the change of policy value. The rows "rank stage" are what
``estimate_proxies`` says, which the rank stage calls. Further pairs are rankers with and without vectors as a feature.
Two platforms: on "list" every candidate is shown, so that the log holds all that a ranker would order; on "page" the
base ranker chose 6 of up to 14 (12 on average: the others were seen before), and the log is silent on the rest. With
--run, the world of a finished run, and its student, kernel ridge, content and ID teacher as the rankers' vectors.
Command: python experiments/benchmarks/lifetime/simulated_ab.py [--seeds 1 2 3] [--users 5000] [--json FILE]
    recdistill run experiments/recipes/demo.yaml data.world.days=90 data.world.seed=1 split.validation=0.35 \\
        split.test=0.4 --out RUN, then: python experiments/benchmarks/lifetime/simulated_ab.py --run RUN
Time: about a minute a seed and platform on one idle core with 5,000 users. Memory: under 2 GB.
Expected: on "list" above 95 % of signs right where the true effect is significant and a Spearman above .9 by the order
of ranked pages, on "page" above 85 % and .75 by the pages drawn at random, whose clicks are few: more users, surer
signs. "rank stage": 95 % and .9 and above on both, in worlds 1 to 3 as in those that its form was chosen by (seeds 100
to 102 with 1,500 users): it scores every ranker anew on the same rows, the platform's own too. In the one world of a
run with students' vectors 86 to 90 % and .84 to .88.
The order of ranked pages against the log's own order (not the ranker's, scored anew) gets signs wrong on "page".
Sizes are right within a factor of four: LT7 is foretold as if the ranker had taken hold at once. With a few hundred
users the surrogate's slope is not off zero, and all signs may turn round: its interval is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ab_offline import SIGNAL_DAYS, Offline, Rows, Slope, Value, Worth, lift, lift_interval, robust, weighted
from ab_platform import Lift, Platform, Scorer, true_lift
from ab_rankers import Knowledge, Learned, spaces, spaces_of_run, treatments

from recdistill.exits import exit_codes
from recdistill.ingest.synthetic import Truth
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.lifetime.policy import effective_sample_size
from recdistill.lifetime.propensities import look_propensities
from recdistill.lifetime.proxies import Proxies
from recdistill.lifetime.surrogate import rank_correlation

HORIZONS = (7, 30)
TRAINED, VALUED, SWITCH = 24, 34, 52  # first days: of rows that train rankers, that value policies, of the A/B test
RANDOM_SHARE = 0.15
CLIP = 20.0
PLATFORMS: dict[str, dict[str, Any]] = {
    "list": {"items": 6_000, "slots": 8, "candidates": 8, "position_decay": 0.7},
    "page": {"items": 3_000},
}
# Name → rows of random pages or of ranked ones, and how they are valued. The platform's own ranker is valued by the
# same, but for "as logged": by the order that the log has.
ESTIMATES: dict[str, tuple[bool, Value]] = {
    "random pages, robust": (True, robust),
    "random pages": (True, weighted),
    "ranked pages": (False, weighted),
}
AS_LOGGED, RANK_STAGE = "ranked, as logged", "rank stage"
OWN = "own"
DRAWS_OF_PAIRS = 2_000


@dataclass(frozen=True)
class Foretold:
    """What the log says of one ranker: worth by estimate, and the rows of the first."""

    worth: Mapping[str, Worth]
    primary: Rows


@dataclass(frozen=True)
class Pair:
    """One A/B test.

    Attributes:
        true, lived: lift in expected days and in days as they were lived, from the day after the switch on.
        later: true lift from a week later on, when it has taken hold.
        predicted: lift by estimate.
        interval: of the first estimate.
        effective_share: of its rows.
    """

    world: str
    ranker: str
    against: str
    days: int
    true: Lift
    lived: Lift
    later: Lift
    predicted: dict[str, float]
    interval: tuple[float, float] | None
    effective_share: float


@exit_codes()
def main() -> None:
    """Simulate, foretell, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the worlds")
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--platforms", nargs="+", choices=PLATFORMS, default=list(PLATFORMS))
    parser.add_argument("--run", type=Path, help="a finished run on a planted world of 90 days")
    parser.add_argument("--draws", type=int, default=200, help="of the bootstrap over users")
    parser.add_argument("--json", type=Path, help="where to write every pair")
    of = parser.parse_args()
    written: dict[str, Any] = {}
    worlds = {
        platform: [
            WorldConfig(seed=seed, users=of.users, users_per_block=of.users, days=90, media=0.0, **PLATFORMS[platform])
            for seed in of.seeds
        ]
        for platform in of.platforms
    }
    if of.run is not None:
        worlds = {"run": [Truth.read(of.run / "data").config]}
    for platform, configs in worlds.items():
        pairs = [
            pair
            for config in configs
            for pair in ab_tests(config, run=of.run, name=f"{platform} {config.seed}", draws=of.draws)
        ]
        print(f"\n== {platform}: {len(pairs) // len(HORIZONS)} pairs, {configs[0].users} users a world")
        print_pairs(pairs)
        print_verdicts(pairs)
        written[platform] = [asdict(pair) for pair in pairs]
    if of.json:
        of.json.write_text(json.dumps(written, indent=1), encoding="utf-8")


def ab_tests(config: WorldConfig, *, run: Path | None, name: str, draws: int) -> list[Pair]:
    """All rankers against the platform's own in one world, and those with vectors against those without."""
    if config.days < SWITCH + SIGNAL_DAYS + 1 + max(HORIZONS):
        raise SystemExit(f"the world has {config.days} days; {SWITCH + SIGNAL_DAYS + 1 + max(HORIZONS)} are needed")
    platform = Platform(config, SWITCH, RANDOM_SHARE)
    base = platform.run(platform.own)
    rows = base.events(start=0, stop=SWITCH)
    rows = rows[base.random[rows]]
    look = look_propensities(base.position[rows], base.clicked[rows])
    print(f"\n{name}: look by position {np.round(look, 3).tolist()}", flush=True)
    if run is None:
        vectors = spaces(platform, base, until=TRAINED, seed=config.seed)
    else:
        vectors = spaces_of_run(platform, run, until=TRAINED, seed=config.seed)
    before, now = (Knowledge.of(platform, base, vectors, until=day, look=look) for day in (TRAINED, VALUED))
    train = base.events(start=TRAINED, stop=VALUED)
    everything = tuple(space for space in vectors if space != "random")
    groups = {"no vectors": (), **{space: (space,) for space in vectors}, "all vectors": everything}
    learned = {group: Learned.fit(before, now, of, base, train, look=look) for group, of in groups.items()}
    offline = Offline(platform, base, VALUED, look, learned["all vectors"], CLIP, config.seed)
    slopes = {days: offline.slope(days=days, draws=max(draws // 4, 10)) for days in HORIZONS}
    for days, slope in slopes.items():
        print_slope(days, slope)
    # Where all that a ranker orders is shown, every page tells; else only those drawn at random do.
    complete = config.slots == config.candidates
    primary = "ranked pages" if complete else "random pages, robust"

    rankers: dict[str, Scorer] = {OWN: platform.own, **treatments(platform, now, learned)}
    foretold, returns = {}, {}
    for ranker, scorer in rankers.items():
        arm = base if ranker == OWN else platform.run(scorer)
        returns[ranker] = arm.returns
        foretold[ranker] = foretell(offline, scorer, primary=primary)
    stage = {
        days: offline.rank_stage(rankers, slope, base=OWN, draws=max(draws // 4, 10)) for days, slope in slopes.items()
    }
    for days, said in stage.items():
        print_stage(days, said)
    logged = offline.rows(None, random=False)
    as_logged = weighted(logged, np.arange(len(logged.user)))

    tests = [(ranker, OWN) for ranker in rankers if ranker != OWN]
    for kind in ("learned, ", "own + learned, "):
        tests += [
            (kind + group, kind + "no vectors") for group in groups if kind + group in rankers and group in everything
        ]
    pairs = []
    for ranker, against in tests:
        treated, control = foretold[ranker], foretold[against]
        for days, slope in slopes.items():
            true, lived = true_lift(platform, returns[against], returns[ranker], days=days)
            later, _ = true_lift(platform, returns[against], returns[ranker], days=days, after=SIGNAL_DAYS)
            share = 1 - RANDOM_SHARE
            predicted = {
                estimate: lift(slope, treated.worth[estimate], control.worth[estimate], share=share)
                for estimate in sorted(ESTIMATES, key=lambda name: name != primary)
            }
            if against == OWN:
                predicted[AS_LOGGED] = lift(slope, treated.worth["ranked pages"], as_logged, share=share)
            by_rank_stage = stage[days].days
            predicted[RANK_STAGE] = share * (by_rank_stage[ranker].value - by_rank_stage[against].value)
            interval = lift_interval(
                ESTIMATES[primary][1],
                treated.primary,
                control.primary,
                slope,
                share=share,
                draws=draws,
                seed=config.seed,
            )
            effective = effective_sample_size(treated.primary.weight) / len(treated.primary.weight)
            pairs.append(Pair(name, ranker, against, days, true, lived, later, predicted, interval, effective))
    return pairs


def foretell(offline: Offline, ranker: Scorer, *, primary: str) -> Foretold:
    """Everything that the base's log says of a ranker."""
    rows = {random: offline.rows(ranker, random=random) for random in (True, False)}
    worth = {
        estimate: value(rows[random], np.arange(len(rows[random].user)))
        for estimate, (random, value) in ESTIMATES.items()
    }
    return Foretold(worth, rows[ESTIMATES[primary][0]])


def print_slope(days: int, slope: Slope) -> None:
    """The surrogate of LT-``days``."""
    print(
        f"  surrogate of LT{days}, out of time: R² {slope.r2:.3f} (active days alone {slope.naive_r2:.3f}), rank "
        f"correlation {slope.rho:.3f}, calibration slope {slope.calibration_slope:.2f}; days by a click a look "
        f"{slope.by_clicks:+.2f}" + ("" if slope.interval is None else " [{:+.2f}, {:+.2f}]".format(*slope.interval)),
        flush=True,
    )


def print_stage(days: int, said: Proxies) -> None:
    """What the rank stage would make of the same log."""
    limits = "" if said.by_pleasing.interval is None else " [{:+.2f}, {:+.2f}]".format(*said.by_pleasing.interval)
    print(f"  rank stage, LT{days}: days by a pleasing event {said.by_pleasing.value:+.2f}{limits}", flush=True)


def print_pairs(pairs: Sequence[Pair]) -> None:
    """A row a pair."""
    print(
        f"\n{'world':<9}{'ranker':<29}{'against':<27}{'LT':>2}{'true lift':>20}{'as lived':>19}{'foretold':>28}"
        f"{'ESS':>6}"
    )
    for pair in sorted(pairs, key=lambda pair: (pair.days, pair.true.value)):
        limits = "" if pair.interval is None else f"[{pair.interval[0]:+.3f}, {pair.interval[1]:+.3f}]"
        print(
            f"{pair.world:<9}{pair.ranker:<29}{pair.against:<27}{pair.days:>2}"
            f"{pair.true.value:>+10.4f} ± {1.96 * pair.true.error:.4f}{'*' if pair.true.significant else ' '}"
            f"{pair.lived.value:>+9.3f} ± {1.96 * pair.lived.error:.3f}"
            f"{next(iter(pair.predicted.values())):>+9.4f} {limits:>18}{pair.effective_share:>6.2f}"
        )


def print_verdicts(pairs: Sequence[Pair]) -> None:
    """Sign accuracy, rank correlation and size of every estimate, with 95 % bootstrap intervals over pairs."""
    print(
        f"\n{'foretold by':<22}{'LT':>2}{'signs, significant':>30}{'signs, all':>28}{'Spearman':>23}"
        f"{'true / foretold':>24}{'a week later':>14}"
    )
    for estimate in [*pairs[0].predicted]:
        for days in HORIZONS:
            of = [pair for pair in pairs if pair.days == days and estimate in pair.predicted]
            figures = verdict(of, estimate)
            print(
                f"{estimate:<22}{days:>2}"
                f"{_shown(figures['significant']):>24} of {sum(pair.true.significant for pair in of):<3}"
                f"{_shown(figures['all']):>22} of {len(of):<3}{_shown(figures['spearman']):>22}"
                f"{_shown(figures['size']):>24}{figures['size_later'][0]:>14.2f}"
            )


def verdict(pairs: Sequence[Pair], estimate: str) -> Mapping[str, tuple[float, float, float]]:
    """Sign accuracy over significant pairs and over all, Spearman, true size a foretold one; each with its interval."""
    true, later = (np.array([getattr(pair, of).value for pair in pairs]) for of in ("true", "later"))
    said = np.array([pair.predicted[estimate] for pair in pairs])
    sure = np.array([pair.true.significant for pair in pairs])

    def figures(at: np.ndarray) -> list[float]:
        right = np.sign(true[at]) == np.sign(said[at])
        certain = right[sure[at]]
        size = (said[at] ** 2).sum()
        return [
            float(certain.mean()) if len(certain) else np.nan,
            float(right.mean()),
            rank_correlation(true[at], said[at]),
            float((true[at] * said[at]).sum() / size),
            float((later[at] * said[at]).sum() / size),
        ]

    rng = np.random.default_rng(0)
    drawn = np.array([figures(rng.integers(len(pairs), size=len(pairs))) for _ in range(DRAWS_OF_PAIRS)])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    values = figures(np.arange(len(pairs)))
    names = ("significant", "all", "spearman", "size", "size_later")
    return {name: (values[at], float(low[at]), float(high[at])) for at, name in enumerate(names)}


def _shown(figure: tuple[float, float, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*figure)


if __name__ == "__main__":
    main()
