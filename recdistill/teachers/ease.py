"""Item vectors of EASE: the leading part of its item-item weights.

Shapes: V vocabulary items, n items with a positive, d width.
"""

from __future__ import annotations

import numpy as np
import torch

from recdistill.errors import UserError
from recdistill.retrieval.ease import ease_weights, ease_weights_of_gram
from recdistill.teachers.ials import interactions
from recdistill.teachers.positives import Positives


def ease_vectors(positives: Positives, *, dim: int, l2: float, max_items: int) -> np.ndarray:
    """E with E·Eᵀ the best approximation of rank d to (B + Bᵀ) / 2 by positive directions.

    So the dot product of a mean of vectors with an item's is about what EASE says of that history.
    Time n³; memory 24·n² bytes.

    Returns:
        [V, d] float32; zero for an item without a positive.

    Raises:
        UserError: more than ``max_items`` items have a positive.
    """
    items = np.flatnonzero(positives.support.numpy() > 0)
    if len(items) > max_items:
        raise UserError(
            f"teachers.ease: {len(items)} items with a positive are more than max_items ({max_items})",
            remedy="EASE inverts an items × items matrix: leave the section out, or raise max_items if memory allows",
        )
    matrix = interactions(positives)[:, items]
    if matrix.shape[0] < len(items):
        weights = ease_weights(torch.from_numpy(matrix.toarray()), l2=l2)
    else:
        weights = ease_weights_of_gram(torch.from_numpy((matrix.T @ matrix).toarray()), l2=l2)
    symmetric = (weights + weights.T).div_(2).double()
    values, directions = torch.linalg.eigh(symmetric)
    kept = values[-dim:].clamp(min=0).sqrt()
    vectors = np.zeros((len(positives.item_ids), dim), dtype=np.float32)
    vectors[items, : len(kept)] = (directions[:, -dim:] * kept).flip(1).float().numpy()
    return vectors
