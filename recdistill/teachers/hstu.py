"""The block of HSTU (Zhai et al., ICML 2024, arXiv 2402.17152, §3.1-3.2): pointwise attention that sees time.

Where softmax attention shares out a sum of one, each weight here is a SiLU of its own; a gate U takes the place of
the feed-forward layer.

Shapes: B sequences, L positions, d width, H heads, G buckets of gaps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from recdistill.teachers.indexing import gather

# As in the paper's code: a bucket spans a factor of e^0.301 in seconds, about a third. 2^63 µs lie in bucket 99.
GAP_BUCKETS = 100
_LOG_WIDTH = 0.301
_MICROSECONDS = 1_000_000
# A position that sees one item of L has attended values of a size near 1 / L, which LayerNorm's usual 1e-5 would damp.
_EPS = 1e-6


def gap_buckets(asked_at: Tensor, seen_at: Tensor) -> Tensor:
    """How long before each request each item was taken, on a log scale.

    Args:
        asked_at: [B, L] int64 microseconds: when the item behind each position was asked for.
        seen_at: [B, L] int64 microseconds: when each item was taken.

    Returns:
        [B, L, L] int64 buckets below :data:`GAP_BUCKETS` of request i and item j; below two seconds (and below
        zero, which only masked pairs are) it is bucket 0.
    """
    seconds = (asked_at.unsqueeze(2) - seen_at.unsqueeze(1)) // _MICROSECONDS
    return (seconds.clamp(min=1).float().log() / _LOG_WIDTH).long()


class HstuBlock(nn.Module):
    """U, V, Q, K = SiLU(f1(x)); A = SiLU(Q Kᵀ + bias) / length, causal; x + f2(norm(A V) ⊙ U).

    The bias is a learned number for how many positions lie between, plus one for the bucket of the time between;
    all heads share them.

    Args:
        length: most positions. It divides the weights, whatever a batch's longest sequence: padding changes nothing.
    """

    def __init__(self, *, dim: int, length: int, heads: int) -> None:
        super().__init__()
        self._heads, self._length = heads, length
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        self.inputs = nn.Linear(dim, 4 * dim)  # U, V, Q, K
        self.output = nn.Linear(dim, dim)
        self.position_bias = nn.Parameter(torch.zeros(length))
        self.gap_bias = nn.Parameter(torch.zeros(GAP_BUCKETS))

    def forward(self, x: Tensor, gaps: Tensor, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """[B, L, d] and the [B, L, L] gaps of :func:`gap_buckets` → [B, L, d]"""
        size, length, dim = x.shape
        gate, *parts = silu(self.inputs(self.norm(x))).split(dim, dim=-1)
        value, query, key = (part.view(size, length, self._heads, dim // self._heads).transpose(1, 2) for part in parts)
        weights = silu(query @ key.transpose(2, 3) + self._bias(gaps).unsqueeze(1)) / self._length
        attended = (weights.tril() @ value).transpose(1, 2).reshape(size, length, dim)
        gated = layer_norm(attended, (dim,), eps=_EPS) * gate
        return x + drop(self.output(drop(gated)))

    def _bias(self, gaps: Tensor) -> Tensor:
        """[B, L, L]"""
        place = torch.arange(gaps.shape[1])
        between = (place.unsqueeze(1) - place).clamp(min=0)
        of_place, of_gap = (gather(table.unsqueeze(1), at).squeeze(-1) for table, at in
                            ((self.position_bias, between), (self.gap_bias, gaps)))  # fmt: skip
        return of_gap + of_place
