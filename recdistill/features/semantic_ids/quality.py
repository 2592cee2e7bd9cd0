"""All figures of semantic IDs: apart, in use, near what was near, and in agreement with tags.

Shapes: n items, d width, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from recdistill.features.semantic_ids.codebooks import Codebooks
from recdistill.features.semantic_ids.neighbours import nearest_items, overlap, shared, shared_by_chance
from recdistill.features.semantic_ids.tags import Pairs, agreement
from recdistill.features.semantic_ids.usage import collisions, perplexity, usage
from recdistill.features.space import to_unit

NEIGHBOURS = 10
_ASKED = 2000


def quality(
    books: Codebooks, ids: pd.Index, vectors: np.ndarray, codes: np.ndarray, *, tags: Mapping[str, Pairs], seed: int
) -> dict[str, Any]:
    """Figures of the items' codes, whatever method gave them and in whatever order the items stand.

    Args:
        ids: [n] item ids.
        vectors: [n, d] as they were coded.
        codes: [n, L] by ``books``.
        tags: of each field, the pairs that :func:`recdistill.features.semantic_ids.tags.tag_pairs` gives.

    Returns:
        What :func:`collisions` gives; per level ``usage`` and ``perplexity``; ``cosine`` of a vector and what its codes
        stand for, on average; ``neighbours``: of the ``k`` nearest of up to 2,000 items, per level the share that are
        in one bucket with the item (``shared``, and ``chance``: of any two items), and the ``overlap`` with the k
        nearest by what codes stand for; ``tags``: per field and level ``nmi`` and its ``chance``.

    Memory: 4 · d · (n + distinct IDs) + 4 · n · L bytes, and 150 MB.
    """
    units = to_unit(vectors, mean=books.mean)
    buckets = books.buckets(codes)
    drawn = np.random.default_rng(seed).permutation(len(ids))[:_ASKED]
    asked = np.asarray(ids.argsort())[drawn]
    k = min(NEIGHBOURS, len(ids) - 1)
    found: dict[str, Any] = {
        **collisions(codes),
        "usage": usage(codes, sizes=books.sizes),
        "perplexity": perplexity(codes),
        "cosine": float((units[asked] * books.decode(codes[asked])).sum(axis=1).mean(dtype=np.float64)),
    }
    if k:
        neighbours = nearest_items(units, asked, k=k)
        found["neighbours"] = {
            "k": k,
            "shared": shared(buckets, asked, neighbours),
            "chance": shared_by_chance(buckets),
            "overlap": overlap(books, codes, asked, neighbours),
        }
    found["tags"] = {field: agreement(buckets, pairs, seed=seed) for field, pairs in tags.items()}
    return found
