"""Pair datasets as row numbers over one catalogue of items and texts.

Shapes: I items, X distinct texts behind them, N = I + X rows, P training pairs, H held-out pairs, T targets, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from recdistill.contracts import names
from recdistill.contracts.tables import read_metadata, read_table
from recdistill.errors import UserError
from recdistill.retrieval.hashing import hash_ids, mix

_Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PairDataset:
    """One dataset.

    A pair of score 0 was judged not to belong together: it orders others (CoSENT), and is nowhere a positive.

    Attributes:
        name: its table's.
        graded: scores differ between pairs, and order them.
        rows: N, of the catalogue that the rows below number.
        query, target: [P] int64 rows of the pairs that train.
        score: [P] float32; 1 where the table gives none.
        held_query, held_target: [H] int64 rows of positive pairs that validate. They train in no dataset of the fit, in
            neither direction.
    """

    name: str
    graded: bool
    rows: int
    query: Tensor
    target: Tensor
    score: Tensor
    held_query: Tensor
    held_target: Tensor

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def targets(self) -> Tensor:
        """[T] int64, ascending: every row that is a target, held out or not."""
        return torch.cat([self.target, self.held_target]).unique()

    def related(self, query: Tensor, target: Tensor) -> Tensor:
        """[B, C] bool: which of the targets [C] are no negatives of the queries [B].

        Those that training pairs name, in either direction, and the query itself.
        """
        keys = query[:, None] * self.rows + target[None, :]
        place = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        known = self._keys[place] == keys if len(self._keys) else torch.zeros_like(keys, dtype=torch.bool)
        return known | (query[:, None] == target[None, :])

    def known(self, queries: Tensor) -> Tensor:
        """[n, 2] int64 (place among the distinct queries, row) of what :meth:`related` knows of them by pairs."""
        start = torch.searchsorted(self._keys, queries * self.rows)
        count = torch.searchsorted(self._keys, (queries + 1) * self.rows) - start
        place = torch.arange(len(queries)).repeat_interleave(count)
        first = (count.cumsum(0) - count).repeat_interleave(count)
        at = torch.arange(len(place)) - first + start.repeat_interleave(count)
        return torch.stack([place, self._keys[at] % self.rows], dim=1)

    @cached_property
    def _keys(self) -> Tensor:
        """Ascending (row, row) of the positive training pairs in both directions, as one number."""
        positive = self.score > 0
        query, target = self.query[positive], self.target[positive]
        return torch.cat([query * self.rows + target, target * self.rows + query]).unique()


@dataclass(frozen=True)
class PairDatasets:
    """The datasets of a fit and the texts that occur in them.

    Attributes:
        texts: [X] distinct query and target texts; the n-th is row I + n.
        datasets: by name.
    """

    texts: tuple[str, ...]
    datasets: dict[str, PairDataset]

    @classmethod
    def read(
        cls, folder: Path, item_ids: pd.Index, *, held_out: float, max_held_out: int, chosen: Sequence[str] | None
    ) -> PairDatasets:
        """Read the ``pair`` stage's tables of a fit.

        Which pairs are held out is a function of their ids alone: neither order nor other pairs change it.

        Args:
            folder: with ``<dataset>.parquet`` each.
            held_out: share of pairs that do not train; max_held_out: of these, so many of a dataset validate at most.
            chosen: names of the datasets to read; None: all.

        Raises:
            UserError: a chosen dataset is not there, or none is, or a pair names an item outside the catalogue.
        """
        paths = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
        absent = [name for name in chosen or () if name not in paths]
        if absent or not paths:
            raise UserError(
                f"{folder}: no pair dataset {', '.join(absent) or 'at all'} (there are: {', '.join(paths) or 'none'})",
                remedy="name only datasets that the pair stage wrote; pairs.json says why one is empty",
            )
        texts: dict[str, int] = {}
        ids = pd.Series(range(len(item_ids)), index=item_ids)
        tables = {name: path for name, path in paths.items() if chosen is None or name in chosen}
        rows = {name: _rows(path, read_table(path), ids, texts) for name, path in tables.items()}
        hashes = np.concatenate([hash_ids(item_ids), hash_ids(pd.Index(list(texts), dtype=object))])
        datasets = {
            name: _split(name, bool(read_metadata(path).get("graded")), hashes, rows[name], held_out, max_held_out)
            for name, path in tables.items()
        }
        return cls(tuple(texts), datasets)


def _rows(path: Path, table: pa.Table, ids: pd.Series, texts: dict[str, int]) -> _Columns:
    """[P] query rows, target rows and scores; new texts are added to ``texts``."""

    def side(item: str, text: str) -> np.ndarray:
        items, words = table[item].to_pandas(), table[text].to_pylist()
        of_items = ids.index.get_indexer(pd.Index(items))
        unknown = np.array([word is None for word in words], dtype=bool) & (of_items < 0)
        if unknown.any():
            raise UserError(
                f"{path}: {int(unknown.sum())} pairs name an item outside the catalogue in {item}, "
                f"e.g. {items[unknown].iloc[0]!r}",
                remedy="run the pair stage again",
            )
        return np.array(
            [
                row if word is None else len(ids) + texts.setdefault(word, len(texts))
                for row, word in zip(of_items, words, strict=True)
            ],
            dtype=np.int64,
        )

    query, target = side(names.QUERY_ITEM, names.QUERY_TEXT), side(names.TARGET_ITEM, names.TARGET_TEXT)
    score = table[names.SCORE].to_pandas().fillna(1.0).to_numpy(dtype=np.float32)
    return query, target, score


def _split(name: str, graded: bool, hashes: np.ndarray, columns: _Columns, held_out: float, most: int) -> PairDataset:
    """Hold pairs out, both directions of one together."""
    query, target, score = columns
    first, second = np.minimum(hashes[query], hashes[target]), np.maximum(hashes[query], hashes[target])
    # One cut for all datasets: what one of them holds out, no other trains on, even where fewer than these validate.
    aside = mix(0, first, second) < np.uint64(held_out * 2.0**64)
    held = aside & (score > 0)
    if held.sum() > most:
        draw = mix(1, first, second)
        held &= draw < np.sort(draw[held])[most]

    def rows(values: np.ndarray, mask: np.ndarray) -> Tensor:
        return torch.from_numpy(values[mask])

    return PairDataset(
        name,
        graded,
        len(hashes),
        rows(query, ~aside),
        rows(target, ~aside),
        rows(score, ~aside),
        rows(query, held),
        rows(target, held),
    )
