"""CoSENT: pairs with graded scores, ordered by cosine (Su, 2022; SAIL-Embedding, 2510.12709, section 3.3.2).

Shapes: B pairs, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosent(query: Tensor, target: Tensor, score: Tensor, *, temperature: float | Tensor) -> Tensor:
    """log(1 + Σ exp((cos_j − cos_i) / τ)) over all i, j with score_i > score_j: the better pair shall be the closer.

    Memory: 5·B² bytes are kept for the gradient (float32).

    Args:
        query: [B, d]; target: [B, d]; row i of both is pair i.
        score: [B] grades, of which only the order counts; equal ones are not compared.
        temperature: differences of cosines are divided by it.

    Returns:
        scalar ≥ 0; 0, with a zero gradient, where no two scores differ.
    """
    cosine = F.cosine_similarity(query, target, dim=-1) / temperature
    better = score[:, None] > score[None, :]
    terms = (cosine[None, :] - cosine[:, None]).masked_fill(~better, -torch.inf)
    return torch.cat([terms.new_zeros(1), terms.flatten()]).logsumexp(0)
