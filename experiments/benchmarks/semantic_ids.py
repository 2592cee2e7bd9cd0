"""Semantic IDs of a finished run's student by three methods, in several sizes and depths: how good, stable and fast.

Purpose: codes in even use (no collapse), few collisions, neighbours kept, agreement with the catalogue's tags; and how
many codes stay when the catalogue grows by a ninth, and when another seed's student takes the first one's place, fitted
anew and continued from the earlier codes (export.continue_ids). Nothing is judged by clicks: no window is touched.
Command: python experiments/benchmarks/semantic_ids.py RUN [--books 32,32 256,256,256] [--methods residual_kmeans rqvae]
[--stability]; RUN is the folder of recdistill run, or an embedding table. RQ-VAE needs the extra 'rqvae'.
Time: 10,000 items of width 256, on one idle core: 1 to 5 s a row of k-means, 15 to 25 s of RQ-VAE, which takes as
many steps of a hundred items; --stability takes five fits a row in place of one. Memory: 1 GB.
Expected: usage 90 % or more everywhere; on movielens-posters with 256,256,256, RQ-VAE below 1 % collisions and residual
k-means below 6 %, whose deeper levels single items out (perplexity falls level by level); overlap of neighbours about a
third. Continued codes stay above codes fitted anew on every row of --stability.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.exits import exit_codes
from recdistill.features.config import SemanticIdConfig
from recdistill.features.semantic_ids import Codebooks, fit_codebooks, kept, quality, tag_pairs
from recdistill.features.space import Space

METHODS = ("kmeans", "residual_kmeans", "rqvae")
BOOKS = ("64", "256", "32,32", "64,64,64", "256,256", "256,256,256", "256,256,256,256")
EARLIER = 0.9  # share of the catalogue that the earlier codes of --stability are of


@exit_codes()
def main() -> None:
    """Print a line for every method and every sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--books", nargs="+", default=BOOKS, help="sizes of the levels, e.g. 32,32 256,256,256")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--stability", action="store_true", help="how many codes stay, in place of how good they are")
    parser.add_argument("--seed", type=int, default=0)
    of = parser.parse_args()
    tables = student_tables(of.run)
    first = EmbeddingTable.read(tables[0])
    print(f"{tables[0]}: {len(first.ids)} items, width {first.vectors.shape[1]}")
    other = EmbeddingTable.read(tables[1]) if len(tables) > 1 else None
    if of.stability:
        print(
            f"{'':<36}{'catalogue grown by a ninth':>28}{'another student':>28}\n{'share of codes kept: method':<36}",
            end="",
        )
        print("".join(f"{head:>14}" for head in ("anew", "continued") * 2), "  (whole ID / first code)")
    else:
        print(
            f"{'method':<16}{'sizes':<20}{'s':>6}{'collide':>9}{'most':>6}{'used':>7}{'cosine':>8}{'overlap':>9}",
            end="",
        )
        print("  inside by level (chance) · perplexity by level · NMI by level (chance)")
    catalogue = of.run / "data" / "items.parquet"
    tags = tag_pairs(catalogue, first.ids) if catalogue.exists() else {}
    for books in of.books:
        sizes = tuple(map(int, books.split(",")))
        for method in of.methods:
            if method == "residual_kmeans" and len(sizes) == 1 and "kmeans" in of.methods:
                continue  # one level leaves nothing over: it is k-means
            config = SemanticIdConfig(method=method, sizes=sizes)
            if of.stability:
                print(stability(config, first, other, seed=of.seed), flush=True)
            else:
                print(figures(config, first, tags, seed=of.seed), flush=True)


def student_tables(run: Path) -> list[Path]:
    """The first seed's table, exported or as distilled, and the next seed's if there is one."""
    if run.is_file():
        return [run]
    distilled = sorted(run.glob("seed-*/*/distill/final/student.parquet"))
    found = [path for path in (run / "export" / "item_embeddings.parquet", *distilled[:1]) if path.exists()][:1]
    if not found:
        raise UserError(f"{run}: no student's table", remedy="name a folder in which recdistill run got past distill")
    first = distilled[0].parents[3].name if distilled else ""
    return found + [path for path in distilled if path.parents[3].name != first][:1]


def fitted(config: SemanticIdConfig, table: EmbeddingTable, *, seed: int, start: np.ndarray | None = None) -> Codebooks:
    mean = Space.of(table, table.ids, centre=True).mean
    return fit_codebooks(config, table.ids, table.vectors, mean=mean, seed=seed, start=start)


def figures(config: SemanticIdConfig, table: EmbeddingTable, tags: dict[str, Any], *, seed: int) -> str:
    begun = time.process_time()
    books = fitted(config, table, seed=seed)
    seconds = time.process_time() - begun
    found = quality(books, table.ids, table.vectors, books.encode(table.vectors), tags=tags, seed=seed)
    near = found["neighbours"]
    inside = " ".join(f"{100 * a:.1f}({100 * b:.2f})" for a, b in zip(near["shared"], near["chance"], strict=True))
    labels = "; ".join(
        f"{field} " + " ".join(f"{a:.3f}({b:.3f})" for a, b in zip(of["nmi"], of["chance"], strict=True))
        for field, of in found["tags"].items()
    )
    return (
        f"{config.method:<16}{'×'.join(map(str, books.sizes)):<20}{seconds:>6.1f}{100 * found['collision_rate']:>8.1f}%"
        f"{found['largest_bucket']:>6}{100 * min(found['usage']):>6.1f}%{found['cosine']:>8.3f}"
        f"{100 * near['overlap']:>8.1f}%  {inside} · {' '.join(f'{p:.0f}' for p in found['perplexity'])} · {labels}"
    )


def stability(config: SemanticIdConfig, table: EmbeddingTable, other: EmbeddingTable | None, *, seed: int) -> str:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(table.ids))[: int(EARLIER * len(table.ids))])
    part = EmbeddingTable(table.ids[chosen], table.vectors[chosen])
    cells = compared(config, part, table, seed=seed)
    if other is not None:
        cells += compared(config, table, other, seed=seed)
    return f"{config.method:<16}{'×'.join(map(str, config.sizes)):<20}" + "".join(f"{cell:>14}" for cell in cells)


def compared(config: SemanticIdConfig, earlier: EmbeddingTable, now: EmbeddingTable, *, seed: int) -> list[str]:
    """Codes kept by a fit anew, and by one that continues the earlier codes."""
    before = np.full((len(now.ids), len(config.sizes)), -1, dtype=np.int32)
    rows = earlier.ids.get_indexer(now.ids)
    before[rows >= 0] = fitted(config, earlier, seed=seed).encode(earlier.vectors)[rows[rows >= 0]]
    cells = []
    for start in (None, before):
        stayed = kept(before, fitted(config, now, seed=seed, start=start).encode(now.vectors))
        cells.append(f"{100 * stayed['whole']:.1f}/{100 * stayed['levels'][0]:.1f}")
    return cells


if __name__ == "__main__":
    main()
