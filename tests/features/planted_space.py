"""A space with clusters in clusters, for tests of semantic IDs."""

from __future__ import annotations

import numpy as np
import pandas as pd


def planted_space(n: int = 240, *, seed: int = 0) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Four far clusters, each of three near ones: ids, [n, 8] vectors, [n] number of the near cluster (of twelve)."""
    rng = np.random.default_rng(seed)
    coarse = np.repeat(np.arange(4), n // 4)
    fine = np.arange(n) % 3
    centres = 10 * np.eye(4, 8)[coarse] + 2 * np.eye(3, 8, k=5)[fine]
    vectors = centres + 0.05 * rng.standard_normal((n, 8))
    return pd.Index([f"i{at:03d}" for at in range(n)]), vectors.astype(np.float32), coarse * 3 + fine


def mean_direction(vectors: np.ndarray) -> np.ndarray:
    """[d] what is taken off directions before they are coded, as ``Space.mean``."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
