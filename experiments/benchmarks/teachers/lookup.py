"""One training step of an id table: recdistill's fused table against nn.EmbeddingBag (sparse) + Adagrad.

Purpose: the fused path must stay the fast one. Pooled bags are what the ID teacher of a large log sees, one id a
bag is how sequences are fed.
Command: python experiments/benchmarks/teachers/lookup.py [--rows 1000000] [--steps 10]
Time: about 20 s. Memory: about 1.5 GB at a million rows of 64.
Expected: ratios below 1 everywhere; more threads and uniform ids favour the fused path most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from recdistill.teachers.tables import IdTable

DIM = 64
BAGS, PER_BAG = 4_096, 20


def main() -> None:
    """Print a row a case: ours, the peer, the ratio (median milliseconds, interleaved)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    total = BAGS * PER_BAG
    draws = {
        "uniform": torch.randint(arguments.rows, (total,), generator=generator),
        # Log-uniform ranks: density proportional to 1 / rank, Zipf's law with exponent 1.
        "zipf": (arguments.rows ** torch.rand(total, generator=generator, dtype=torch.float64) - 1).long(),
    }
    print(f"{arguments.rows:,} × {DIM}, {total:,} ids a step, {torch.get_num_threads()} threads")
    print(f"{'ids':<9}{'lookup':<12}{'fused ms':>10}{'peer ms':>10}{'ratio':>8}")
    ours = IdTable(arguments.rows, dim=DIM, seed=0, scale=0.05, learning_rate=0.1)
    peer = torch.nn.EmbeddingBag(arguments.rows, DIM, mode="sum", sparse=True)
    optimizer = torch.optim.Adagrad(peer.parameters(), lr=0.1)
    for name, ids in draws.items():
        for lookup, lengths in (("20 a bag", torch.full((BAGS,), PER_BAG)), ("1 a bag", torch.ones_like(ids))):
            fused, plain = _interleaved(
                lambda ids=ids, lengths=lengths: _fused_step(ours, ids, lengths),
                lambda ids=ids, lengths=lengths: _plain_step(peer, optimizer, ids, lengths),
                steps=arguments.steps,
            )
            print(f"{name:<9}{lookup:<12}{fused:>10.1f}{plain:>10.1f}{fused / plain:>8.2f}")


def _fused_step(table: IdTable, ids: Tensor, lengths: Tensor) -> None:
    pooled = table.pool(ids, lengths)
    pooled.backward(torch.ones_like(pooled))


def _plain_step(bags: torch.nn.EmbeddingBag, optimizer: torch.optim.Optimizer, ids: Tensor, lengths: Tensor) -> None:
    pooled = bags(ids, lengths.cumsum(0) - lengths)
    optimizer.zero_grad()
    pooled.backward(torch.ones_like(pooled))
    optimizer.step()


def _interleaved(ours: Callable[[], None], peer: Callable[[], None], *, steps: int) -> tuple[float, float]:
    """Median milliseconds of each, steps taken in turn so that a busy machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for step in range(steps + 2):
        for which, run in enumerate((ours, peer)):
            started = time.perf_counter()
            run()
            if step >= 2:  # the first two warm up
                times[which].append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
