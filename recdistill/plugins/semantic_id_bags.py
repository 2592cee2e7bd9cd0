"""Semantic IDs as sparse features that a ranker trains.

Shapes: n items, L levels, N rows in B bags.

Where a level codes what those before it left over, an ID's prefixes are the features (as the n-grams of Singh et al.,
arXiv 2306.08121, that begin with the first code): such a code says little by itself. Items that share a prefix share
what is learned of it, new ones too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType

from recdistill.errors import UserError
from recdistill.plugins.bags import known_bags
from recdistill.plugins.resizing import take_shapes

_LEAST_KEPT = 0.5  # codebooks begun anew give hardly an item the ID it had; those continued from it most


class SemanticIdBags(nn.Module):
    """From item rows (``ItemVocabulary.rows``) to a KeyedJaggedTensor of ID prefixes, and the tables for them.

    Level l has a table of ``k_1 · … · k_l`` vectors; where that is more than ``max_rows``, prefixes are hashed into so
    many. Levels that each code the vector itself are features by themselves, and have ``k_l``. An item without codes
    has an empty bag, and new items need no new vectors. A module without weights: the codes travel in ``state_dict``,
    however many items there are; the sizes have to be the same.

    Args:
        codes: [n, L] codes, coarse to fine; -1 in the first level for an item that has none.
        sizes: how many codes each level has.
        residual: a level codes what those before it left over; else the vector itself.
        max_rows: most vectors of a level's table.

    Memory: 8 · n · L bytes.
    """

    prefixes: Tensor  # [n, L] int64 row in each level's table, -1 without
    sizes: Tensor  # [L] int64
    table_rows: Tensor  # [L] int64

    def __init__(
        self, codes: np.ndarray, *, sizes: Sequence[int], residual: bool = True, max_rows: int = 1 << 20
    ) -> None:
        super().__init__()
        self._residual = residual
        totals = [math.prod(map(int, sizes[: at + 1] if residual else [sizes[at]])) for at in range(len(sizes))]
        rows = [min(total, max_rows) for total in totals]
        self._exact = [total <= max_rows for total in totals]
        self.register_buffer("sizes", torch.tensor(list(sizes), dtype=torch.int64))
        self.register_buffer("table_rows", torch.tensor(rows, dtype=torch.int64))
        self.register_buffer("prefixes", self._numbered(codes))

    @property
    def levels(self) -> int:
        """L."""
        return len(self.table_rows)

    def keys(self, role: str = "item") -> list[str]:
        """The L features of a role, such as the candidate (``item``) or a user's ``history``."""
        return [f"{role}_sid_{at}" for at in range(self.levels)]

    def configs(self, embedding_dim: int, *, roles: Sequence[str] = ("item",)) -> list[EmbeddingBagConfig]:
        """One mean-pooled table a level, shared by the roles, for a collection of bags of any kind."""
        keys = [self.keys(role) for role in roles]
        return [
            EmbeddingBagConfig(
                name=f"sid_{at}",
                embedding_dim=embedding_dim,
                num_embeddings=rows,
                feature_names=[of_role[at] for of_role in keys],
                pooling=PoolingType.MEAN,
            )
            for at, rows in enumerate(self.table_rows.tolist())
        ]

    def forward(self, rows: Tensor, lengths: Tensor | None = None, *, role: str = "item") -> KeyedJaggedTensor:
        """Bags of prefixes, L features of B bags each.

        Args:
            rows: [N] int64, -1 for an unknown item.
            lengths: [B] how many of the rows each bag has, such as a user's history; None: one each.
            role: names the features, as in :meth:`keys`.
        """
        coded = torch.where(rows >= 0, self.prefixes[rows.clamp(min=0), 0], -1) >= 0
        rows, kept = known_bags(torch.where(coded, rows, -1), lengths)
        return KeyedJaggedTensor(
            keys=self.keys(role), values=self.prefixes[rows].T.reshape(-1), lengths=kept.repeat(self.levels)
        )

    def append(self, codes: np.ndarray) -> None:
        """Add new items' codes behind those there are; the tables stay as they are.

        Raises:
            UserError: the codes have other levels, or one is outside of its level's size.
        """
        self.prefixes = torch.cat([self.prefixes, self._numbered(codes).to(self.prefixes.device)])

    def check_codes(self, rows: Tensor, codes: np.ndarray, *, sizes: Sequence[int]) -> None:
        """Refuse codes of other codebooks: an export fits its codebooks anew unless it continues earlier IDs.

        Args:
            rows: [m] int64 rows of items that are known already.
            codes: [m, L] what those items are coded as in the other table.
            sizes: of the other table's levels.

        Raises:
            UserError: the levels' sizes differ, or fewer than half of the known items have the ID that they had.
        """
        remedy = "code the new items with the codebooks of the export that the ranker was trained on"
        if list(sizes) != self.sizes.tolist():
            raise UserError(
                f"levels of {list(sizes)} codes; the ranker's tables are made for {self.sizes.tolist()}", remedy=remedy
            )
        other = (self._numbered(codes) != self.prefixes[rows].cpu()).any(dim=1)
        if len(other) and 1 - other.double().mean() < _LEAST_KEPT:
            raise UserError(
                f"{int(other.sum())} of {len(other)} items that both know have other semantic IDs here", remedy=remedy
            )

    def _numbered(self, codes: np.ndarray) -> Tensor:
        sizes = self.sizes.cpu().numpy()
        none = codes[:, :1] < 0
        if codes.shape[1] != len(sizes) or (~none & ((codes < 0) | (codes >= sizes))).any():
            raise UserError(
                f"codes outside of levels of {sizes.tolist()} codes",
                remedy="code items with the codebooks that the sizes come from",
            )
        mixed = np.zeros(len(codes), dtype=np.uint64)
        exact = np.zeros(len(codes), dtype=np.int64)
        columns = []
        for at, rows in enumerate(self.table_rows.tolist()):
            if not self._residual:  # each level begins anew
                mixed, exact = np.zeros_like(mixed), np.zeros_like(exact)
            code = np.where(none[:, 0], 0, codes[:, at])
            mixed = _mix(mixed + code.astype(np.uint64) + np.uint64(1))
            column = (mixed % np.uint64(rows)).astype(np.int64)
            if self._exact[at]:
                column = exact = exact * sizes[at] + code
            columns.append(np.where(none[:, 0], -1, column))
        return torch.from_numpy(np.stack(columns, axis=1))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("sizes", "table_rows"):
            loaded = state_dict.get(prefix + name)
            if loaded is not None and loaded.tolist() != getattr(self, name).tolist():
                raise UserError(
                    f"the state's semantic IDs have {name} {loaded.tolist()}, this ranker's "
                    f"{getattr(self, name).tolist()}",
                    remedy="build the ranker on codebooks of the sizes, and with the max_rows, that it had then",
                )
        take_shapes(self, ("prefixes",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _mix(value: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): every bit depends on every bit, and 2^64 wraps around."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
