"""A causal Transformer over item vectors: SASRec's blocks (Kang and McAuley, ICDM 2018, §III; pre-norm) or HSTU's.

Shapes: B sequences, L positions, d width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from recdistill.teachers.hstu import HstuBlock, gap_buckets


class CausalBlock(nn.Module):
    """Self-attention to earlier positions and the own one, then a feed-forward layer."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.attention_in = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.forward_in = nn.Linear(dim, 2 * dim)
        self.forward_out = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """[B, L, d] → [B, L, d]"""
        size, length, dim = x.shape
        parts = self.attention_in(self.attention_norm(x)).view(size, length, 3, self._heads, dim // self._heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, H, L, d / H]
        # No dropout of attention weights: on a CPU it gives up the fused kernel and takes a fifth of the step.
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)
        merged = attended.transpose(1, 2).reshape(size, length, dim)
        x = x + drop(self.attention_out(merged))
        hidden = gelu(self.forward_in(self.forward_norm(x)))
        return x + drop(self.forward_out(hidden))


class CausalTransformer(nn.Module):
    """Item vectors in time order → at each position, the state from which the next item is predicted.

    Sequences begin at position 0 and are padded behind: a padded position is never seen by an earlier one.

    Args:
        block: SASRec's, which sees order alone, or HSTU's, which also sees how long before the request of the next
            item each item was taken.
        eras: learned vectors that a position gets whose request lies in the log's last half, quarter, eighth …; what is
            in fashion is then told apart from what was. Requests after the log's end get all of them. 0: none.
        times: the log's first and last time, microseconds.
    """

    def __init__(
        self,
        *,
        dim: int,
        length: int,
        block: Literal["sasrec", "hstu"],
        layers: int,
        heads: int,
        eras: int,
        times: tuple[int, int],
    ) -> None:
        super().__init__()
        self._times = times
        self.eras = nn.Parameter(torch.zeros(eras, dim))
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02)
        self._timed = block == "hstu"
        self.blocks = nn.ModuleList(
            HstuBlock(dim=dim, length=length, heads=heads) if self._timed else CausalBlock(dim=dim, heads=heads)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, seen_at: Tensor, asked_at: Tensor, *, drop: Callable[[Tensor], Tensor] = lambda x: x
    ) -> Tensor:
        """States from which the next items are predicted.

        Args:
            x: [B, L, d] with L at most ``length``.
            seen_at: [B, L] int64 microseconds: when each item was taken, not falling.
            asked_at: [B, L] int64 microseconds: when the item behind each position was asked for, which is known
                to whoever answers: the time of the next item in training, of the request in use.
            drop: dropout of [B, L, d], while training.

        Returns:
            [B, L, d]
        """
        x = drop(x + self.positions[: x.shape[1]] + self._era(asked_at))
        gaps = (gap_buckets(asked_at, seen_at),) if self._timed else ()
        for block in self.blocks:
            x = block(x, *gaps, drop)
        states: Tensor = self.norm(x)
        return states

    def _era(self, asked_at: Tensor) -> Tensor:
        """[B, L] → [B, L, d]"""
        first, last = self._times
        age = (last - asked_at).double() / max(last - first, 1)
        begins = 0.5 ** torch.arange(1, len(self.eras) + 1, dtype=torch.float64)
        return (age.unsqueeze(-1) < begins).to(self.eras.dtype) @ self.eras


def running_mean(x: Tensor) -> Tensor:
    """[B, L, d] → [B, L, d]: the mean of the positions up to and with each."""
    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(1)
