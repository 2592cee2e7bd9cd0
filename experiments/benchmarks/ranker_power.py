"""How small a gain of AUC the ranker harness sees, and whether it sees one where there is none.

Purpose: online an AUC gain of 0.1 points counts; offline it is easily noise. In the planted world the true affinity of
user and item is known, so a column of it under noise is a feature with a true gain, as small as the noise is large, and
a column of noise alone is a feature without any. Rankers are trained with and without such a column, tested on all
users, and asked how often a test on so many of the users sees the gain (above zero, two-sided p below 5 %): by the
error over users alone, and by that over users and trainings, which is the one to trust: a ranker trained anew scores
otherwise, with a feature or without.
Command: python experiments/benchmarks/ranker_power.py --out FOLDER [--users 20000] [--model trees] [--seeds 0,1,2]
         [--noises 14,11,8] [--columns 4]
Time: about fifteen minutes for 20,000 users with trees on one idle core; dlrm about three times as long. Memory: 4 GB.
Expected: a row a noise (in standard deviations of the affinity): the gain over all users and, for growing numbers of
users, the share of draws that see it; the row of noise alone stays at or below 5 % by the error over users and
trainings. Below, the gain seen at 80 % power for each number of users, of the smallest planted column and of noise.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recdistill.contracts.fold import Fold
from recdistill.ingest.synthetic import Truth, WorldConfig, write_world
from recdistill.rankers.config import RankConfig
from recdistill.rankers.data import Data
from recdistill.rankers.delong import delong
from recdistill.rankers.groups import TableFeatures
from recdistill.rankers.inputs import How
from recdistill.rankers.metrics import SEEN_AT_80
from recdistill.rankers.models import train_model
from recdistill.rankers.names import ModelName
from recdistill.rankers.rows import Rows
from recdistill.split import SplitConfig, split

SUBSETS = 25


@dataclass(frozen=True)
class Seen:
    """A gain on some users, and its standard errors over users alone, and over users and trainings."""

    gain: float
    over_users: float
    over_both: float


def main() -> None:
    """Make the world, train, draw users, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=1_200)
    parser.add_argument("--model", choices=["dlrm", "dcn", "trees"], default="trees")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--noises", type=lambda text: [float(noise) for noise in text.split(",")], default=[14, 11, 8])
    parser.add_argument("--columns", type=int, default=4, help="columns drawn for each noise")
    asked = parser.parse_args()
    world = WorldConfig(users=asked.users, items=asked.items, media=0.0)
    data, truth = read(world, asked.out)
    affinity = tuple(true_affinity(truth, data, rows) for rows in (data.train, data.test))
    config = RankConfig(models=(asked.model,))
    base = trained(asked.model, config, data, None, asked.seeds)
    users = len(np.unique(data.test.user))
    sizes = [users // part for part in (16, 8, 4, 2, 1)]
    print(
        f"{asked.model}: {len(data.test):,} test rows of {users:,} users, {len(asked.seeds)} seeds; points of per cent"
    )
    print(f"{'noise':<8}{'gain':>7}" + "".join(f"{f'{size:,} users':>20}" for size in sizes))
    print(f"{'':<15}" + f"{'users':>10}{'both':>10}" * len(sizes))
    errors = {}
    for noise in (math.inf, *sorted(asked.noises, reverse=True)):
        gains, found = [], {size: list[Seen]() for size in sizes}
        for column in planted(affinity, noise, asked.columns):
            with_it = trained(asked.model, config, data, column, asked.seeds)
            gains.append(seen(data.test, base, with_it).gain)
            for size in sizes:
                found[size] += [seen(data.test, base, with_it, of=of) for of in subsets(data.test, size)]
        errors[noise] = {size: float(np.mean([one.over_both for one in of])) for size, of in found.items()}
        cells = [f"{share(of, 'over_users'):>10.0%}{share(of, 'over_both'):>10.0%}" for of in found.values()]
        label = "alone" if math.isinf(noise) else f"{noise:g}"
        print(f"{label:<8}{100 * np.mean(gains):>+7.3f}" + "".join(cells))
    for noise in (min(asked.noises), math.inf):
        cells = [f"{100 * SEEN_AT_80 * errors[noise][size]:>20.3f}" for size in sizes]
        label = "noise alone" if math.isinf(noise) else f"noise {noise:g}"
        print(f"{f'80 % power, {label}':<15}" + "".join(cells))


def read(world: WorldConfig, out: Path) -> tuple[Data, Truth]:
    """Write and split the world, unless it is there; make the rankers' rows."""
    root = out / f"world-{world.users}-{world.items}"
    if not (root / "split" / "time").exists():
        write_world(world, out=root / "data")
        split(SplitConfig(), data=root / "data", out=root / "split")
    fold = Fold(root / "split" / "time")
    return Data.read(RankConfig(), fold, root / "data" / "items.parquet", seed=0), Truth.read(root / "data")


def true_affinity(truth: Truth, data: Data, rows: Rows) -> np.ndarray:
    """[n] float32, in its own standard deviations."""
    user = truth.user_ids.get_indexer(data.history.user_ids)[rows.user]
    item = truth.item_ids.get_indexer(data.history.item_ids)[rows.item]
    affinity = truth.affinity(user, item, day=truth.day(rows.time))
    return (affinity - affinity.mean()) / affinity.std()


def planted(affinity: tuple[np.ndarray, ...], noise: float, columns: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns of training and test rows: affinity under noise, or noise alone where it is infinite."""
    for at in range(columns):
        rng = np.random.default_rng((17, at))
        train, test = (
            (rng.standard_normal(len(one)) if math.isinf(noise) else one + noise * rng.standard_normal(len(one)))
            for one in affinity
        )
        yield train.astype(np.float32), test.astype(np.float32)


def trained(
    model: ModelName,
    config: RankConfig,
    data: Data,
    column: tuple[np.ndarray, np.ndarray] | None,
    seeds: Sequence[int],
) -> np.ndarray:
    """[K, n] float64 logits of the test rows, of rankers with the base features and the column."""
    parts = {}
    if column is not None:
        none = np.zeros((len(data.cold), 0), dtype=np.float32)
        parts["planted"] = TableFeatures(tuple(of[:, None] for of in column), (1,), none, ())
    task = data.task(parts, newest=config.validation)
    with tempfile.TemporaryDirectory() as folder:
        hows = [
            How(Path(folder) / "ranker", f"{seed}", f"{model} · {seed}", seed, lambda _, __: None) for seed in seeds
        ]
        return np.stack([train_model(model, config, task, how).test for how in hows])


def subsets(rows: Rows, size: int) -> Iterator[np.ndarray]:
    """Users drawn without replacement; once where it is all of them."""
    users = np.unique(rows.user)
    for at in range(SUBSETS if size < len(users) else 1):
        yield np.random.default_rng((size, at)).choice(users, size, replace=False)


def seen(rows: Rows, base: np.ndarray, with_it: np.ndarray, *, of: np.ndarray | None = None) -> Seen:
    """The gain of AUC, mean over seeds, on the rows of all or some users.

    Args:
        base, with_it: [K, n].
        of: users.
    """
    chosen = slice(None) if of is None else np.isin(rows.user, of)
    areas = delong(rows.label[chosen], np.vstack([with_it, base])[:, chosen], user=rows.user[chosen])
    assert areas is not None, "too few users"
    seeds = len(base)
    test = areas.test(np.repeat([1 / seeds, -1 / seeds], seeds))
    by_seed = areas.value[:seeds] - areas.value[seeds:]
    of_training = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
    return Seen(test.difference, test.error, math.sqrt(test.error**2 + of_training))


def share(found: Sequence[Seen], error: str) -> float:
    """Of draws that see a gain above zero."""
    return float(np.mean([one.gain > 1.96 * getattr(one, error) for one in found]))


if __name__ == "__main__":
    main()
