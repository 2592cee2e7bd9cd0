"""Full-ranking recall against the bare matrix product of the same size.

Purpose: ranks of 20,000 users' targets among 20,000 items of width 64, 50 items of history excluded per user, mean
rank on ties, without users × items in memory.
Command: python experiments/benchmarks/full_ranking.py
Time: about 15 s on two cores. Memory: below 0.5 GB for ours, 1.6 GB more for the bare product.
Expected: ratio ours / bare between 1 and 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from own_process import peak
from torch import Tensor

from recdistill.retrieval.ranks import target_ranks


def main() -> None:
    arguments = _arguments()
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(arguments.users, arguments.width, generator=generator)
    items = torch.randn(arguments.items, arguments.width, generator=generator)
    targets = torch.randint(arguments.items, (arguments.users,), generator=generator)
    # Distinct items a user: a random start and stride through the catalogue.
    start = torch.randint(arguments.items, (arguments.users, 1), generator=generator)
    history = (start + 7 * torch.arange(arguments.history)) % arguments.items
    offsets = torch.arange(0, arguments.users * arguments.history + 1, arguments.history)

    def ours() -> Tensor:
        return target_ranks(queries, items, targets, exclude_offsets=offsets, exclude_items=history.ravel())

    before = peak()
    ours_seconds, ranks = _best(ours, arguments.repeats)
    after = peak()
    bare_seconds, _ = _best(lambda: queries @ items.T, arguments.repeats)
    print(f"threads            {torch.get_num_threads()}")
    for k in (10, 50):
        print(f"recall@{k:<3}         {(ranks <= k).double().mean():.5f}")
    print(f"ours               {ours_seconds:.3f} s")
    print(f"bare torch matmul  {bare_seconds:.3f} s")
    print(f"ratio              {ours_seconds / bare_seconds:.2f}")
    print(
        f"peak RSS           {after:.0f} MB (inputs loaded: {before:.0f} MB; users × items would be "
        f"{arguments.users * arguments.items * 4 / 2**20:.0f} MB)"
    )


def _best(work: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="full-ranking recall against the bare matrix product")
    for name, default in (("users", 20_000), ("items", 20_000), ("width", 64), ("history", 50), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
