"""How small a gain of AUC the ranker harness sees, and whether it sees one where there is none.

Purpose: online an AUC gain of 0.1 points counts; offline it is easily noise. In the planted world the true affinity of
user and item is known, so a column of it under noise is a feature with a true gain, as small as the noise is large, and
a column of noise alone is a feature without any. Rankers are trained with such a column and with a control, noise in
its place: against no column at all noise gained .03 points, as trees that choose splits from a share of the columns
then see the others more often. A trial trains both several times, each time with noise drawn anew, as a student or a
random table of another seed is another one; tests on all users; and asks how often a test on a part of the users sees
the gain (above zero, two-sided p below 5 %): by the error over users alone, and by that over users and trainings, which
is the one to trust. The parts of one trial have no user in common, but share its trainings.
Command: python experiments/benchmarks/rankers/power.py --out FOLDER [--users 20000] [--model trees] [--seeds 12]
         [--noises 11] [--trials 3]
Time: about fifteen minutes for 20,000 users with trees on one idle core; dlrm about three times as long. Memory: 4 GB.
Expected: a row a noise (in standard deviations of the affinity): the gain over all users, and for growing numbers of
users how many tests of how many see it, by both errors; noise alone is seen by the error over users and trainings no
more often than chance leaves likely. Below, the gain seen at 80 % power for each number
of users, of the smallest planted column and of noise.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recdistill.contracts.fold import Fold
from recdistill.exits import exit_codes
from recdistill.ingest.synthetic import Truth, WorldConfig, write_world
from recdistill.rankers.config import RankConfig
from recdistill.rankers.contrast import Trained
from recdistill.rankers.data import Data
from recdistill.rankers.delong import delong
from recdistill.rankers.groups import TableFeatures
from recdistill.rankers.inputs import How
from recdistill.rankers.models import train_model
from recdistill.rankers.names import ModelName
from recdistill.rankers.rows import Rows
from recdistill.split import SplitConfig, split


@dataclass(frozen=True)
class Seen:
    """A gain on some users: over users alone, and over users and trainings."""

    by_users: Trained
    by_both: Trained


@exit_codes()
def main() -> None:
    """Make the world, train, part users, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=1_200)
    parser.add_argument("--model", choices=["dlrm", "dcn", "trees"], default="trees")
    parser.add_argument("--seeds", type=int, default=12, help="trainings of a trial, and of its control")
    parser.add_argument("--noises", type=lambda text: [float(noise) for noise in text.split(",")], default=[11])
    parser.add_argument("--trials", type=int, default=3, help="of each noise, and of noise alone")
    asked = parser.parse_args()
    world = WorldConfig(users=asked.users, items=asked.items, media=0.0)
    data, truth = read(world, asked.out)
    affinity = tuple(true_affinity(truth, data, rows) for rows in (data.train, data.test))
    config = RankConfig(models=(asked.model,))
    controls: dict[int, np.ndarray] = {}
    users = len(np.unique(data.test.user))
    parts = (16, 8, 4, 2, 1)
    print(f"{asked.model}: {len(data.test):,} test rows of {users:,} users, {asked.seeds} seeds; points of per cent")
    print(f"{'noise':<8}{'gain':>7}" + "".join(f"{f'{users // part:,} users':>24}" for part in parts))
    print(f"{'':<15}" + f"{'users':>12}{'both':>12}" * len(parts))
    smallest = {}
    for noise in (math.inf, *sorted(asked.noises, reverse=True)):
        gains, found = [], {part: list[Seen]() for part in parts}
        for at in range(asked.trials):
            # Seeds and noise of its own: trials against one and the same control would be right or wrong together.
            seeds = range(at * asked.seeds, (at + 1) * asked.seeds)
            if at not in controls:
                controls[at] = trained(asked.model, config, data, planted(affinity, math.inf, seeds, kind=1), seeds)
            with_it = trained(asked.model, config, data, planted(affinity, noise, seeds, kind=0), seeds)
            for part in parts:
                found[part] += [seen(data.test, controls[at], with_it, of=of) for of in divided(data.test, part)]
            gains.append(found[1][-1].by_both.value)
        smallest[noise] = {part: float(np.median([one.by_both.detectable for one in of])) for part, of in found.items()}
        cells = [f"{count(of, 'by_users'):>12}{count(of, 'by_both'):>12}" for of in found.values()]
        label = "alone" if math.isinf(noise) else f"{noise:g}"
        print(f"{label:<8}{100 * np.mean(gains):>+7.3f}" + "".join(cells), flush=True)
    for noise in (min(asked.noises), math.inf):
        cells = [f"{100 * smallest[noise][part]:>24.3f}" for part in parts]
        label = "noise alone" if math.isinf(noise) else f"noise {noise:g}"
        print(f"80 % power, {label}: median".ljust(15) + "\n" + " " * 15 + "".join(cells))


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


def planted(
    affinity: tuple[np.ndarray, ...], noise: float, seeds: Sequence[int], *, kind: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A column of training and test rows for each seed: affinity under noise, or noise alone where it is infinite.

    Args:
        kind: columns of one seed and another kind have other noise.
    """
    for seed in seeds:
        rng = np.random.default_rng((17, seed, kind))
        train, test = (
            (rng.standard_normal(len(one)) if math.isinf(noise) else one + noise * rng.standard_normal(len(one)))
            for one in affinity
        )
        yield train.astype(np.float32), test.astype(np.float32)


def trained(
    model: ModelName,
    config: RankConfig,
    data: Data,
    columns: Iterable[tuple[np.ndarray, np.ndarray]],
    seeds: Sequence[int],
) -> np.ndarray:
    """[K, n] float64 logits of the test rows, of rankers with the base features and each seed's column."""
    none = np.zeros((len(data.cold[0]), 0), dtype=np.float32)
    logits = []
    for column, seed in zip(columns, seeds, strict=True):
        part = TableFeatures(tuple(of[:, None] for of in column), (1,), none, ())
        task = data.task({"planted": part}, newest=config.validation)
        with tempfile.TemporaryDirectory() as folder:
            how = How(Path(folder) / "ranker", f"{seed}", f"{model} · {seed}", seed, lambda _, __: None)
            logits.append(train_model(model, config, task, how).test)
    return np.stack(logits)


def divided(rows: Rows, parts: int) -> list[np.ndarray]:
    """Users in so many parts of equal size, without a user in common."""
    users = np.unique(rows.user)
    return np.array_split(np.random.default_rng(parts).permutation(users), parts)


def seen(rows: Rows, control: np.ndarray, with_it: np.ndarray, *, of: np.ndarray) -> Seen:
    """The gain of AUC, mean over seeds, on the rows of some users.

    Args:
        control, with_it: [K, n].
        of: users.
    """
    chosen = np.isin(rows.user, of)
    areas = delong(rows.label[chosen], np.vstack([with_it, control])[:, chosen], user=rows.user[chosen])
    assert areas is not None, "too few users"
    seeds = len(control)
    test = areas.test(np.repeat([1 / seeds, -1 / seeds], seeds))
    by_seed = areas.value[:seeds] - areas.value[seeds:]
    return Seen(
        Trained(test.difference, test.error, math.inf),
        Trained.of(by_seed, over_users=test.error),
    )


def count(found: Sequence[Seen], error: str) -> str:
    """Of tests that see a gain above zero, and of how many."""
    gains = [getattr(one, error) for one in found]
    return f"{sum(gain.value > 0 and gain.p < 0.05 for gain in gains)} of {len(gains)}"


if __name__ == "__main__":
    main()
