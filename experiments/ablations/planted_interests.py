"""Do the four perspectives find the interests that the planted world gave its users?

Purpose: in that world each user has one to four topics with known weights, and each item one topic. A mined query
should be of its target's topic, or of the user's topics in their true mixture. Printed by perspective, each a mean over
users (of means over their pairs) with a 95 % interval (bootstrap over users):
  purity         share of the query's items that are of the target's topic; by chance: of the user's positives before it
  recall         share of the user's topics that are in the query; by chance: in as many positives of anybody
  distance       total variation between the query's topics and the user's true mixture at the target's time, of users
                 with two topics or more
and the paired differences single minus multi-peak within content and within the collaborative perspectives.
Command: python experiments/ablations/planted_interests.py --out FOLDER [mining.clusters=32 …]
Time: one to two minutes on two cores (world, encoders and ID teacher of the demo recipe). Memory: under 2 GB.
Expected: purity and recall of every perspective above chance; purity of single peaks above that of multi-peaks, whose
distance is the smaller.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from recdistill.config import load_recipe
from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_table
from recdistill.exits import exit_codes
from recdistill.flow import run
from recdistill.ingest.synthetic import Truth

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.yaml"
MEASURES = ("purity", "purity_chance", "recall", "recall_chance", "distance")
PAIR = (names.USER_ID, names.TARGET_ITEM, names.TIMESTAMP)
DRAWS = 1_000


@exit_codes()
def main() -> None:
    """Mine the demo's world, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    of = parser.parse_args()
    recipe = load_recipe(RECIPE, of.overrides)
    run(recipe, out=of.out, until="mine", say=print)
    seed, fold = recipe.runs()[0]
    pairs = read_table(of.out / f"seed-{seed}" / fold / "mine" / "final" / "interest_pairs.parquet")
    log = Fold(of.out / "split" / fold).training("final")
    print_tables(measure(pairs.to_pandas(), log, Truth.read(of.out / "data")))


def measure(pairs: pd.DataFrame, log: Log, truth: Truth, *, seed: int = 0) -> pd.DataFrame:
    """A row a pair, columns :data:`MEASURES` beside what names the pair; distance may be NaN.

    Args:
        pairs: ``interest_pairs``; log: that they were mined from.
    """
    topics = truth.config.topics
    topic = pd.Series(truth.catalogue.topic, index=truth.item_ids)
    lists = pairs[names.QUERY_ITEMS]
    sizes = lists.map(len).to_numpy()
    pair = np.repeat(np.arange(len(pairs)), sizes)
    found = np.zeros((len(pairs), topics))
    np.add.at(found, (pair, topic[np.concatenate(lists.to_list())].to_numpy()), 1)
    found /= sizes[:, None]
    target = topic[pairs[names.TARGET_ITEM]].to_numpy()
    user = truth.user_ids.get_indexer(pairs[names.USER_ID])
    time = pairs[names.TIMESTAMP].astype("int64").to_numpy()
    mixture = _mixture(truth, user, time, topics)
    wanted = mixture > 0
    positive = log.take(log.positive())
    topic_of_event = topic.reindex(log.item_ids).to_numpy()[positive.item]
    # Chance of recall: as many items as the query has, of anybody's positives.
    rng = np.random.default_rng(seed)
    drawn = np.zeros((len(pairs), topics), dtype=bool)
    drawn[pair, topic_of_event[rng.integers(len(positive), size=len(pair))]] = True
    return pd.DataFrame(
        {
            **{name: pairs[name].to_numpy() for name in (names.PERSPECTIVE, *PAIR)},
            "purity": found[np.arange(len(pairs)), target],
            "purity_chance": _history_share(pairs, positive, topic_of_event, target, time, topics),
            "recall": ((found > 0) & wanted).sum(1) / wanted.sum(1),
            "recall_chance": (drawn & wanted).sum(1) / wanted.sum(1),
            "distance": np.where(wanted.sum(1) > 1, 0.5 * np.abs(found - mixture).sum(1), np.nan),
        }
    )


def _mixture(truth: Truth, user: np.ndarray, time: np.ndarray, topics: int) -> np.ndarray:
    """[pairs, topics] the users' true weights of topics at those times, summing to one."""
    users = truth.users
    f = (truth.day(time) / truth.config.days)[:, None]
    weight = (1 - f) * users.weight_start[user] + f * users.weight_end[user]
    own = users.topics[user]
    mixture = np.zeros((len(user), topics))
    rows, places = np.nonzero(own >= 0)
    mixture[rows, own[rows, places]] = weight[rows, places]
    return np.asarray(mixture / mixture.sum(1, keepdims=True))


def _history_share(
    pairs: pd.DataFrame, log: Log, topic: np.ndarray, target: np.ndarray, time: np.ndarray, topics: int
) -> np.ndarray:
    """[pairs] share of the target's topic among the user's positives strictly before it."""
    seen = np.zeros((len(log) + 1, topics), dtype=np.int32)
    seen[np.arange(1, len(log) + 1), topic] = 1
    seen = np.cumsum(seen, axis=0, dtype=np.int32)
    user = log.user_ids.get_indexer(pairs[names.USER_ID])
    first = log.starts[user]
    key = log.time - log.time.min() + log.user.astype(np.int64) * (np.ptp(log.time) + 2)
    before = np.searchsorted(key, time - log.time.min() + user * (np.ptp(log.time) + 2))
    of_topic = seen[before, target] - seen[first, target]
    return np.asarray(of_topic / np.maximum(before - first, 1))


def interval(values: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """Mean over users and its 95 % interval, by bootstrap; NaN are left out."""
    values = values[~np.isnan(values)]
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def by_user(frame: pd.DataFrame, measured: str, *, less: str | None = None) -> np.ndarray:
    """[users] mean over each user's pairs of a measure, or of its difference to another; NaN where all pairs have."""
    values = frame[measured] if less is None else frame[measured] - frame[less]
    return np.asarray(values.groupby(frame[names.USER_ID]).mean())


def differences(frame: pd.DataFrame, kind: str, measured: str) -> np.ndarray:
    """[users] mean of single minus multi-peak over the targets that both have a query for."""
    of = dict(list(frame.groupby(names.PERSPECTIVE)))
    columns = [*PAIR, measured]
    both = of[f"{kind}_single_peak"][columns].merge(of[f"{kind}_multi_peak"][columns], on=list(PAIR))
    return by_user(both, f"{measured}_x", less=f"{measured}_y")


def print_tables(frame: pd.DataFrame) -> None:
    """The perspectives, then the paired differences."""
    print(f"{'perspective':<28}{'users':>7}" + "".join(f"{name:>24}" for name in MEASURES))
    for name, of in frame.groupby(names.PERSPECTIVE, sort=False):
        cells = (interval(by_user(of, measured)) for measured in MEASURES)
        users = of[names.USER_ID].nunique()
        print(f"{name:<28}{users:>7,}" + "".join(f"{_shown(*cell):>24}" for cell in cells))
    print("\nsingle minus multi-peak, targets of both")
    for kind in ("content", "collaborative"):
        for measured in ("purity", "recall", "distance"):
            found = differences(frame, kind, measured)
            users = int(np.isfinite(found).sum())
            print(f"{kind:<15}{measured:<10}{users:>7,} users{_shown(*interval(found)):>26}")


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
