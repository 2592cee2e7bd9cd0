"""Contrast of several views of query and target: pattern matching, and mICL (SAIL-Embedding, 2510.12709, 3.3.2, 3.3.4).

A view is the vector that a subset of an item's modalities gives. All views of a batch come from one forward pass; a
pattern names the view of the query and the view of the target that are contrasted.

Shapes: S views, B pairs, N ≥ B candidates, d width, P patterns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recdistill.objectives.infonce import infonce


def pattern_contrast(
    query_views: Tensor,
    target_views: Tensor,
    query_valid: Tensor,
    target_valid: Tensor,
    *,
    patterns: Sequence[tuple[int, int]],
    temperature: float | Tensor,
    excluded: Tensor | None = None,
) -> Tensor:
    """Mean over the patterns of the InfoNCE of each.

    A pattern asks the pairs that have both its query view and its target view; its candidates are all that have its
    target view. A pattern that no pair can take, or with a single candidate, does not count in the mean.

    For Matryoshka prefixes, :func:`recdistill.objectives.matryoshka.over_prefixes` of the views joined along dim 1.

    Args:
        query_views: [S, B, d]; what stands where a view is not valid is not read.
        target_views: [S, N, d]; the first B are the targets of the pairs, the others further (hard) negatives.
        query_valid: [S, B] bool, whether the query has that view; target_valid: [S, N] bool.
        patterns: (query view, target view), rows of the two.
        temperature: similarities are divided by it.
        excluded: [B, N] bool, candidates that are no negatives of that query (false negatives); its own target stays.

    Returns:
        scalar ≥ 0; 0, with a zero gradient, where no pattern counts.

    Raises:
        ValueError: no patterns.
    """
    if not patterns:
        raise ValueError("no patterns to contrast")
    asked, answered = torch.tensor(patterns, device=query_views.device).T
    query = query_views.masked_fill(~query_valid[..., None], 0.0)[asked]
    candidates = target_views.masked_fill(~target_valid[..., None], 0.0)[answered]
    known = target_valid[answered]  # [P, N]
    pairs = query.shape[1]
    rows = query_valid[asked] & known[:, :pairs]  # [P, B]
    rows = rows & (known.sum(1, keepdim=True) > 1)
    out = ~known[:, None, :]
    return infonce(
        query,
        candidates,
        torch.arange(pairs, device=query.device),
        temperature=temperature,
        excluded=out if excluded is None else out | excluded,
        weight=rows / rows.sum(1, keepdim=True).clamp_min(1),  # a pattern's rows weigh 1 together
    )


def micl(
    query_views: Tensor,
    target_views: Tensor,
    query_valid: Tensor,
    target_valid: Tensor,
    *,
    temperature: float | Tensor,
    excluded: Tensor | None = None,
) -> Tensor:
    """Multimodal contrast within each modality, against imbalance between them: patterns (s, s) of one view a modality.

    Arguments and result are those of :func:`pattern_contrast`.
    """
    return pattern_contrast(
        query_views,
        target_views,
        query_valid,
        target_valid,
        patterns=[(view, view) for view in range(len(query_views))],
        temperature=temperature,
        excluded=excluded,
    )
