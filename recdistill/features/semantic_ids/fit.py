"""From settings and vectors to codebooks.

Shapes: n items, d width, L levels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.errors import UserError
from recdistill.features.config import SemanticIdConfig
from recdistill.features.semantic_ids.codebooks import Codebooks
from recdistill.features.semantic_ids.kmeans import kmeans_levels
from recdistill.features.semantic_ids.rqvae import fit_rqvae
from recdistill.features.space import to_unit


def fit_codebooks(
    config: SemanticIdConfig,
    ids: pd.Index,
    vectors: np.ndarray,
    *,
    mean: np.ndarray,
    seed: int,
    start: np.ndarray | None = None,
) -> Codebooks:
    """Fit codebooks by the method that the settings name.

    The result depends on the set of (id, vector) pairs and the seed only: rows are put in the ids' order, one thread
    adds up, and a level's codes are numbered along its centroids' first principal direction. So codes keep their
    meaning over re-runs on one machine.

    Args:
        ids: [n] item ids.
        vectors: [n, d] raw vectors of those items.
        mean: [d] what to take off their directions (``Space.mean``).
        start: [n, L] codes that the items had in an earlier fit, -1 where an item had none. The fit begins with
            codebooks in which each code is the mean of the items that had it, and keeps its numbers, so that codes go
            on meaning what a ranker has learned of them; also if the vectors are another student's.

    Memory: k-means 3 · 4 · n · d bytes; RQ-VAE 4 · n · (2 d + z) bytes.

    Raises:
        UserError: ``start`` has another number of levels than the settings, has a code that they have not, or has no
            code of any of the items; or the method needs a package that is not installed.
    """
    order = ids.argsort()
    sizes = tuple(min(size, len(ids)) for size in config.sizes)  # no more codes than items
    if start is not None:
        _check(start, sizes)
        start = start[order]
    units = to_unit(vectors[order], mean=mean)
    if config.method == "rqvae":
        by = config.rqvae
        autoencoder, levels = fit_rqvae(
            units,
            sizes=sizes,
            start=start,
            hidden=by.hidden,
            latent=by.latent,
            steps=by.steps,
            batch=by.batch,
            learning_rate=by.learning_rate,
            commitment=by.commitment,
            decay=by.decay,
            seed=seed,
        )
        return Codebooks(mean, levels, autoencoder=autoencoder)
    residual = config.method == "residual_kmeans"
    return Codebooks(mean, kmeans_levels(units, sizes=sizes, residual=residual, start=start, seed=seed), residual)


def _check(start: np.ndarray, sizes: tuple[int, ...]) -> None:
    if start.shape[1] != len(sizes):
        raise UserError(
            f"the earlier semantic IDs have {start.shape[1]} levels, the codebooks {len(sizes)}",
            remedy="keep semantic_ids.sizes as they were, or do not continue the earlier IDs",
        )
    if (start < 0).all():
        raise UserError("none of the items has an earlier semantic ID", remedy="give the table of the same catalogue")
    for at, (most, size) in enumerate(zip(start.max(axis=0).tolist(), sizes, strict=True)):
        if most >= size:
            raise UserError(
                f"the earlier semantic IDs have a code {most} at level {at + 1}, where the codebook has {size} codes",
                remedy="keep semantic_ids.sizes as they were, or larger",
            )
