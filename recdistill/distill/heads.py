"""Heads that turn a query sequence of item vectors into one vector (METHOD 4.2).

Shapes: B queries, L items a query, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MeanHead(nn.Module):
    """Mean of the present items' unit vectors."""

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """[B, L, d] vectors and [B, L] bool → [B, d]."""
        mask = present[..., None].to(vectors.dtype)
        return (F.normalize(vectors, dim=-1) * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


class TransformerHead(nn.Module):
    """Three Transformer layers over the items and a special token, whose output is the query's vector."""

    def __init__(self, *, width: int, length: int, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        heads = next(heads for heads in (4, 3, 2, 1) if width % heads == 0)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """[B, L, d] vectors and [B, L] bool → [B, d]."""
        items = F.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5 + self.position[: vectors.shape[1]]
        tokens = torch.cat([self.token.expand(len(vectors), 1, -1), items], dim=1)
        padding = torch.cat([torch.zeros_like(present[:, :1]), ~present], dim=1)
        out: Tensor = self.layers(tokens, src_key_padding_mask=padding)
        return out[:, 0]
