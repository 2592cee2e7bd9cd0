"""The fusing student: perceiver over the frames, then a Transformer or a decoder over all modalities' tokens.

SAIL-Embedding (arXiv 2510.12709, 3.2): z = mean over tokens of tanh(F(T)), T = [audio; vision; text], ours with the
structured fields behind.

Shapes: B items, T tokens, W a modality's width, D fusion width, N queries, M modalities, d the student's width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.students.fusers import Decoder, SmallTransformer
from recdistill.students.prompts import Prompt

VISION = "image"
PROMPT_PLACES = 16


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


class UnitAdapter(nn.Linear):
    """Features of norm 1 → tokens of about unit variance, by small weights that learn as fast as the others'.

    Tokens as small as the features' entries would drown in what the blocks add to them before these have learned
    anything.
    """

    def reset_parameters(self) -> None:
        """Weights of variance 1 / W, no bias."""
        nn.init.normal_(self.weight, std=self.in_features**-0.5)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[…, W] → […, D]."""
        return super().forward(features * self.in_features**0.5)


class FusionStudent(nn.Module):
    """Adapters to width D, the perceiver for frames, modality embeddings, the fuser, ``tanh``, mean, map to d.

    A token's position is its place: an instruction's tokens end at PROMPT_PLACES, behind it every modality has as many
    places as an item can have tokens there. What is missing keeps its places, so that it shifts nothing.

    Args:
        widths: by modality, in the students' order.
        places: tokens of an item by modality, 1 where it is not given; frames take one for each of the perceiver's
            queries. Where a modality has several, each has an embedding of its own.
        decoder: fuses in place of the small Transformer, and decides ``width`` then.
        prompt_width: of an instruction's features; None reads no instruction.
    """

    def __init__(
        self,
        *,
        widths: Mapping[str, int],
        dim: int,
        width: int,
        depth: int,
        heads: int,
        queries: int,
        dropout: float,
        causal: bool = False,
        places: Mapping[str, int] | None = None,
        decoder: Decoder | None = None,
        prompt_width: int | None = None,
    ) -> None:
        super().__init__()
        self.modalities = tuple(widths)
        width = width if decoder is None else decoder.width
        self.places = {m: queries if m == VISION else (places or {}).get(m, 1) for m in widths}
        # A pretrained decoder expects tokens as small as its own embeddings.
        adapter = UnitAdapter if decoder is None else nn.Linear
        self.adapters = nn.ModuleDict({m: adapter(w, width) for m, w in widths.items()})
        several = {m: () if m == VISION or count == 1 else (count,) for m, count in self.places.items()}
        self.kinds = nn.ParameterDict({m: nn.Parameter(torch.randn(*several[m], width) * 0.02) for m in widths})
        self.perceiver = (
            Perceiver(width=width, queries=queries, heads=heads, dropout=dropout) if VISION in widths else None
        )
        self.fuser: nn.Module = decoder or SmallTransformer(
            width=width, depth=depth, heads=heads, dropout=dropout, causal=causal
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, dim) if dim != width else nn.Identity()
        self.prompt = nn.Linear(prompt_width, width) if prompt_width else None

    def forward(self, features: Mapping[str, Tensor], present: Tensor, prompt: Prompt | None = None) -> Tensor:
        """Modality → [B, T, W] and [B, M] bool, in the modalities' order → [B, d].

        Args:
            prompt: an instruction's features [B, T, w] and [B] bool; tokens that the others see, outside the mean.
        """
        tokens, there, _ = self._tokens(features, present)
        return self._fuse(tokens, there, prompt)

    def views(
        self, features: Mapping[str, Tensor], present: Tensor, member: Tensor, prompt: Prompt | None = None
    ) -> Tensor:
        """[S, B, d] as :meth:`forward` with only the modalities of each of S subsets; ``member``: [S, M] bool.

        Adapters and perceiver run once, the fuser over each subset's own tokens.
        """
        tokens, there, column = self._tokens(features, present)
        empty, nowhere, _ = self._tokens({m: features[m][:1] for m in self.modalities}, torch.zeros_like(present[:1]))
        views = []
        for mine in member[:, column]:
            places = mine.nonzero()[:, 0]
            lost = ~there[:, places].any(1)
            count = int(lost.sum())
            parts = []
            if count < len(lost):
                parts.append(self._fuse(tokens[:, places], there[:, places], prompt, places))
            if count:  # as items of which nothing is known
                asked = None if prompt is None else (prompt[0][lost], prompt[1][lost])
                parts.append(self._fuse(empty.expand(count, -1, -1), nowhere.expand(count, -1), asked))
            views.append(parts[0] if len(parts) == 1 else parts[0].masked_scatter(lost[:, None], parts[1]))
        return torch.stack(views)

    def _tokens(self, features: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, S, D] tokens, [B, S] whether they are there, [S] the modality of each."""
        parts, masks, columns = [], [], []
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
            columns += [column] * tokens.shape[1]
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1), torch.tensor(columns, device=present.device)

    def _fuse(self, tokens: Tensor, there: Tensor, prompt: Prompt | None, places: Tensor | None = None) -> Tensor:
        """[B, S, D] and [B, S] → [B, d]; ``places``: [S] among the item's, where not all tokens are given."""
        if places is None:
            places = torch.arange(tokens.shape[1], device=tokens.device)
        places = places + PROMPT_PLACES
        there = there | ~there.any(1, keepdim=True)  # an item of which nothing is known: the modality embeddings alone
        sequence, seen, first = tokens, there, 0
        if prompt is not None and self.prompt is not None:
            features, asked = prompt
            first = features.shape[1]
            if first > PROMPT_PLACES:
                raise ValueError(f"an instruction of {first} tokens; there are {PROMPT_PLACES} places")
            given = torch.where(asked[:, None, None], features, 0.0)
            sequence = torch.cat([self.prompt(given), tokens], dim=1)
            seen = torch.cat([(given != 0).any(-1), there], dim=1)
            places = torch.cat([torch.arange(PROMPT_PLACES - first, PROMPT_PLACES, device=tokens.device), places])
        fused = torch.tanh(self.fuser(sequence, seen, places)[:, first:])
        mean = (fused * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        vectors: Tensor = self.out(mean)
        return vectors
