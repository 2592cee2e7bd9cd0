"""Five million ids through 200,000 managed rows: what is kept, what is exported, and whether any export is wrong.

Purpose: managed ids must keep the frequent ones, and never export an id with a vector that another one left behind.
Every id has a planted vector that its row is trained towards, so that a wrong row shows twice: an account of who
trained each row since its reset disagrees, or the vector is nearer to the planted one of a former tenant. Beside
them: a table with a row for every id, the usual way (ids hashed into the rows), and, so that one sees the count of
wrong exports count, the map of half-way read against the table of the end.
The stream: each id once, spread evenly, and Zipf's law over them; a quarter of the ranks changes hands four times.
Command: python experiments/benchmarks/teachers/managed_ids.py [--policies lfu lru distance_lfu] [--steps 200]
Time: about two minutes. Memory: about 6 GB, most of it the table with a row for every id.
Expected: no wrong export, and thousands by the stale map; lfu exports all of the 50,000 most frequent ids, 0.999 of
the 100,000 and 0.89 of as many as there are rows, with the errors of a row for every id on the first 10,000; a step
takes three quarters of that table's, whose ids have to be looked up as well. lru forgets the frequent: it is for
logs where only the latest matters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.retrieval.hashing import mix
from recdistill.teachers.managed import POLICIES, ManagedIds
from recdistill.teachers.tables import IdTable
from recdistill.training import step_generator

DIM, BATCH, PHASES = 64, 81_920, 5
TOP = (10_000, 50_000, 100_000, 200_000)
CODES = 2**16
LEARNING_RATE = 0.5


@dataclass
class Way:
    """A table and how ids find their rows, with an account of its own of who trained each row since its reset."""

    name: str
    table: IdTable
    managed: ManagedIds | None
    milliseconds: list[float] = field(default_factory=list)
    writer: Tensor = field(init=False)  # [rows] the latest id that trained the row, -1 for none
    mixed: Tensor = field(init=False)  # [rows] bool: more than one id did
    former: list[Tensor] = field(default_factory=list)  # of [2, ·]: rows, and ids that they held

    def __post_init__(self) -> None:
        self.writer = torch.full((len(self.table.weight),), -1)
        self.mixed = torch.zeros(len(self.table.weight), dtype=torch.bool)

    def account(self, changed: Tensor, rows: Tensor, number: Tensor) -> None:
        """Of one step: reset rows, then trained rows and the ids they were trained for."""
        held = changed[self.writer[changed] >= 0]
        self.former.append(torch.stack([held, self.writer[held]]))
        self.writer[changed], self.mixed[changed] = -1, False
        self.mixed[rows[(self.writer[rows] >= 0) & (self.writer[rows] != number)]] = True
        self.writer[rows] = number
        self.mixed[rows[self.writer[rows] != number]] = True


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--ids", type=int, default=5_000_000, help="distinct, a multiple of 4")
    parser.add_argument("--slots", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=10, help="steps between evictions")
    parser.add_argument("--admit-after", type=int, default=4)
    of = parser.parse_args()
    raw = torch.from_numpy(mix(1, np.arange(of.ids)).view(np.int64))  # a bijection: all distinct
    planted = _planted()
    noise = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(5)) / 2
    stream = _stream(of.ids, of.steps)
    ways = [Way("row for every id", _table(of.ids), None), Way("hashed into rows", _table(of.slots), None)]
    for policy in of.policies:
        managed = ManagedIds(of.slots, policy=policy, admit_after=of.admit_after, every=of.every)
        ways.append(Way(policy, _table(of.slots), managed))
    search = _Search(raw)
    stale: dict[str, tuple[Tensor, Tensor]] = {}
    for step in range(of.steps):
        number = stream[step]
        observed = planted(number) + noise.roll(step, dims=0)
        _train(ways, raw[number], number, observed, search, step=step)
        if step == of.steps // 2:
            stale = {way.name: way.managed.resident() for way in ways if way.managed}
    counts = torch.bincount(stream.flatten(), minlength=of.ids)
    print(
        f"{len(stream.unique()):,} distinct ids in {stream.numel():,} events into {of.slots:,} rows, "
        f"admitted after {of.admit_after}, evictions every {of.every} steps, {torch.get_num_threads()} threads"
    )
    _print(ways, counts, planted, search, stale)


def _train(ways: list[Way], raw: Tensor, number: Tensor, observed: Tensor, search: _Search, *, step: int) -> None:
    """One step of each way in turn, so that a busy machine slows all."""
    for way in ways:
        started = time.perf_counter()
        changed = torch.empty(0, dtype=torch.int64)
        if way.managed:
            changed, rows, resident = way.managed.admit(raw)
            way.table.reset(changed, generation=step)
            own = torch.nonzero(resident).flatten()
            rows, trained, wanted = rows[own], number[own], observed.index_select(0, own)
        else:
            rows = raw.remainder(len(way.table.weight)) if "hashed" in way.name else search(raw)
            trained, wanted = number, observed
        if len(rows):  # before the first eviction nobody is resident
            vectors = way.table.lookup(rows)
            vectors.backward(vectors.detach() - wanted)  # of half the squared distance
        way.milliseconds.append(1e3 * (time.perf_counter() - started))
        way.account(changed, rows, trained)


def _print(
    ways: list[Way],
    counts: Tensor,
    planted: Callable[[Tensor], Tensor],
    search: _Search,
    stale: dict[str, tuple[Tensor, Tensor]],
) -> None:
    order = torch.argsort(counts, descending=True, stable=True)
    every = ways[0]
    heads = [f"recall@{top // 1000}k" for top in TOP]
    print(
        f"{'ids':<18}{'MB':>7}{'served':>8}{'admitted':>11}{'evicted':>11}{'exported':>10}{'wrong':>9}{'stale map':>11}"
        + "".join(f"{head:>13}" for head in heads)
        + f"{'error@10k':>11}{'to every':>10}{'@200k':>8}{'to every':>10}{'ms a step':>11}{'to every':>10}"
    )
    for way in ways:
        if way.managed:
            ids, rows = way.managed.resident()
            number = search(ids)
            report = way.managed.report()
            old_ids, old_rows = stale[way.name]
            account = [f"{report['served']:.3f}", f"{report['admitted']:,}", f"{report['evicted']:,}"]
            misread = f"{_wrong(way, search(old_ids), old_rows, planted):,}"
        else:
            number = order[: TOP[-1]]
            rows = search.raw[number].remainder(len(way.table.weight)) if "hashed" in way.name else number
            account, misread = ["1", "", ""], ""
        row_of = torch.full((len(counts),), -1)
        row_of[number] = rows
        text = (
            f"{way.name:<18}{way.table.weight.numel() * 4 / 1e6:>7.0f}{account[0]:>8}{account[1]:>11}{account[2]:>11}"
        )
        text += f"{len(number):>10,}{_wrong(way, number, rows, planted):>9,}{misread:>11}"
        if "hashed" in way.name:
            text += 13 * len(TOP) * " "
        else:
            text += "".join(f"{_recall(row_of >= 0, counts, top):>13.4f}" for top in TOP)
        for top, width in ((TOP[0], 11), (TOP[-1], 8)):
            judged = order[:top][row_of[order[:top]] >= 0]
            error, best = (
                _error(of.table.weight[at], judged, planted) for of, at in ((way, row_of[judged]), (every, judged))
            )
            text += f"{error:>{width}.4f}{error / best:>10.2f}"
        # The mean, as the median step has no eviction; the first fifth warms up, and fills the rows.
        taken, full = (float(np.mean(of.milliseconds[len(of.milliseconds) // 5 :])) for of in (way, every))
        print(text + f"{taken:>11.1f}{taken / full:>10.2f}")


def _recall(exported: Tensor, counts: Tensor, top: int) -> float:
    """Share of the ``top`` most frequent ids that are exported; of those that tie for the last places, any will do."""
    least = torch.topk(counts, top).values[-1]
    above, tied = counts > least, counts == least
    places = top - int(above.sum())
    return (int((exported & above).sum()) + min(places, int((exported & tied).sum()))) / top


def _error(vectors: Tensor, number: Tensor, planted: Callable[[Tensor], Tensor]) -> float:
    """Mean distance to the planted vector, as a share of its length."""
    wanted = planted(number)
    return float(((vectors - wanted).norm(dim=1) / wanted.norm(dim=1)).mean())


def _wrong(way: Way, number: Tensor, rows: Tensor, planted: Callable[[Tensor], Tensor]) -> int:
    """Exports whose row was trained for another id, or is nearer to what a former tenant of the row was trained to."""
    wrong = (way.writer[rows] != number) | way.mixed[rows]
    place = torch.full((len(way.table.weight),), -1)
    place[rows] = torch.arange(len(rows))
    vectors = way.table.weight[rows]
    own = (vectors - planted(number)).norm(dim=1)
    former = torch.cat(way.former, dim=1)
    for held, other in (part.unbind() for part in former.split(200_000, dim=1)):
        at = place[held]
        at, other = at[at >= 0], other[at >= 0]
        at, other = at[other != number[at]], other[other != number[at]]
        nearer = (vectors[at] - planted(other)).norm(dim=1) <= own[at]
        wrong[at[nearer]] = True
    return int(wrong.sum())


class _Search:
    """Raw ids → numbers 0 … N - 1, as a table with a row for every id needs it."""

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw
        self._sorted, self._order = raw.sort()

    def __call__(self, raw: Tensor) -> Tensor:
        return self._order[torch.searchsorted(self._sorted, raw)]


def _planted() -> Callable[[Tensor], Tensor]:
    """A vector for each number: the sum of two codes of 65,536 each, chosen by a hash.

    All are of one length: a row that was trained once is still short, and of vectors of all lengths it would be
    nearest to a short one, whosever that is.
    """
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(CODES, DIM, generator=generator) for _ in range(2))

    def vectors(number: Tensor) -> Tensor:
        code = mix(2, number.numpy())
        low, high = (
            torch.from_numpy((code >> np.uint64(shift) & np.uint64(CODES - 1)).view(np.int64)) for shift in (0, 16)
        )
        return DIM**0.5 * normalize(first.index_select(0, low) + second.index_select(0, high), dim=1)

    return vectors


def _stream(ids: int, steps: int) -> Tensor:
    """[steps, BATCH] numbers: each id once, the rest by Zipf's law with exponent 1 over ranks."""
    once = torch.randperm(ids, generator=torch.Generator().manual_seed(4)).tensor_split(steps)
    batches = []
    for step in range(steps):
        generator = step_generator(0, step)
        drawn = torch.rand(BATCH - len(once[step]), generator=generator, dtype=torch.float64)
        rank = (ids**drawn - 1).long()
        moved = (rank + ids // PHASES // 4 * 4 * (step * PHASES // steps)) % ids
        batches.append(torch.cat([torch.where(rank % 4 == 0, moved, rank), once[step]]))
    return torch.stack(batches)


def _table(rows: int) -> IdTable:
    return IdTable(rows, dim=DIM, seed=0, scale=0.0, learning_rate=LEARNING_RATE)


if __name__ == "__main__":
    main()
