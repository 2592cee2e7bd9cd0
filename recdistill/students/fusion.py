"""The fusing student: perceiver over the frames, then a bidirectional Transformer over all modalities' tokens.

SAIL-Embedding (arXiv 2510.12709, 3.2): z = mean over tokens of tanh(F(T)), T = [audio; vision; text], ours with the
structured fields behind.

Shapes: B items, T tokens, W a modality's width, D fusion width, N queries, M modalities, d the student's width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

VISION = "image"


class Perceiver(nn.Module):
    """N learned queries look at any number of tokens; only the queries go on (Jaegle et al. 2021, arXiv 2103.03206)."""

    def __init__(self, *, width: int, queries: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.norm_queries, self.norm_tokens, self.norm_out = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """[B, T, D] and [B, T] bool, at least one true a row → [B, N, D]."""
        queries = self.queries.expand(len(tokens), -1, -1)
        context = self.norm_tokens(tokens)
        seen, _ = self.attention(
            self.norm_queries(queries), context, context, key_padding_mask=~there, need_weights=False
        )
        queries = queries + seen
        out: Tensor = queries + self.feed_forward(self.norm_out(queries))
        return out


class FusionStudent(nn.Module):
    """Adapters to width D, the perceiver for frames, modality embeddings, the Transformer, ``tanh``, mean, map to d."""

    def __init__(
        self, *, widths: Mapping[str, int], dim: int, width: int, depth: int, heads: int, queries: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = tuple(widths)
        self.adapters = nn.ModuleDict({m: nn.Linear(w, width) for m, w in widths.items()})
        self.kinds = nn.ParameterDict({m: nn.Parameter(torch.randn(width) * 0.02) for m in widths})
        self.perceiver = (
            Perceiver(width=width, queries=queries, heads=heads, dropout=dropout) if VISION in widths else None
        )
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.fuser = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, dim) if dim != width else nn.Identity()

    def forward(self, features: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Modality → [B, T, W] and [B, M] bool, in the modalities' order → [B, d]."""
        parts, masks = [], []
        for column, modality in enumerate(self.modalities):
            given = torch.where(present[:, column, None, None], features[modality], 0.0)
            there = (given != 0).any(-1)
            there = there | ~there.any(1, keepdim=True)  # attention needs something to look at; the mask below hides it
            tokens = self.adapters[modality](self.dropout(given))
            if modality == VISION and self.perceiver is not None:
                tokens = self.perceiver(tokens, there)
                there = there.new_ones(tokens.shape[:2])
            parts.append(tokens + self.kinds[modality])
            masks.append(there & present[:, column, None])
        sequence, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)  # [B, S, D], [B, S]
        mask = mask | ~mask.any(1, keepdim=True)  # an item of which nothing is known: the modality embeddings alone
        fused = torch.tanh(self.fuser(sequence, src_key_padding_mask=~mask))
        mean = (fused * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors: Tensor = self.out(mean)
        return vectors
