"""One training step of an id table: ours against nn.EmbeddingBag (sparse) + Adagrad, and against FBGEMM's bare table.

Purpose: the fused path must stay the fast one. Pooled bags are what the ID teacher of a large log sees, one id a
bag is how sequences are fed.
Command: python experiments/benchmarks/teachers/lookup.py [--rows 1000000] [--steps 10]
Time: about 20 s. Memory: about 1.5 GB at a million rows of 64.
Expected: a quarter of the plain way for uniform ids, and little above the bare table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType as OptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
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
    print(f"{'ids':<9}{'lookup':<12}{'ours ms':>10}{'plain ms':>10}{'bare ms':>10}{'to plain':>10}{'to bare':>9}")
    ours = IdTable(arguments.rows, dim=DIM, seed=0, scale=0.05, learning_rate=0.1)
    bare = SplitTableBatchedEmbeddingBagsCodegen(
        [(arguments.rows, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=OptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.1,
        eps=1e-8,
        pooling_mode=PoolingMode.SUM,
    )
    peer = torch.nn.EmbeddingBag(arguments.rows, DIM, mode="sum", sparse=True)
    optimizer = torch.optim.Adagrad(peer.parameters(), lr=0.1)
    for name, ids in draws.items():
        for lookup, lengths in (("20 a bag", torch.full((BAGS,), PER_BAG)), ("1 a bag", torch.ones_like(ids))):
            offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
            fused, plain, raw = _interleaved(
                lambda ids=ids, lengths=lengths: _fused_step(ours, ids, lengths),
                lambda ids=ids, lengths=lengths: _plain_step(peer, optimizer, ids, lengths),
                lambda ids=ids, offsets=offsets: _bare_step(bare, ids, offsets),
                steps=arguments.steps,
            )
            print(
                f"{name:<9}{lookup:<12}{fused:>10.1f}{plain:>10.1f}{raw:>10.1f}"
                f"{fused / plain:>10.2f}{fused / raw:>9.2f}"
            )


def _fused_step(table: IdTable, ids: Tensor, lengths: Tensor) -> None:
    pooled = table.pool(ids, lengths)
    pooled.backward(torch.ones_like(pooled))


def _bare_step(table: SplitTableBatchedEmbeddingBagsCodegen, ids: Tensor, offsets: Tensor) -> None:
    pooled = table(ids, offsets)
    pooled.backward(torch.ones_like(pooled))


def _plain_step(bags: torch.nn.EmbeddingBag, optimizer: torch.optim.Optimizer, ids: Tensor, lengths: Tensor) -> None:
    pooled = bags(ids, lengths.cumsum(0) - lengths)
    optimizer.zero_grad()
    pooled.backward(torch.ones_like(pooled))
    optimizer.step()


def _interleaved(*runs: Callable[[], None], steps: int) -> list[float]:
    """Median milliseconds of each, steps taken in turn so that a busy machine slows all."""
    times: list[list[float]] = [[] for _ in runs]
    for step in range(steps + 2):
        for which, run in enumerate(runs):
            started = time.perf_counter()
            run()
            if step >= 2:  # the first two warm up
                times[which].append(1e3 * (time.perf_counter() - started))
    return [statistics.median(of) for of in times]


if __name__ == "__main__":
    main()
