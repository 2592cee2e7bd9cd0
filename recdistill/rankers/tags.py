"""Tags of items as bags for the ranker's base, and one category an item for diversity.

Shapes: I items, T tags kept, K (item, tag) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError


@dataclass(frozen=True)
class Tags:
    """The most frequent tags of a catalogue, numbered from the most frequent on.

    Attributes:
        size: T.
        offsets: [I + 1] int64; item i's tags are ``values[offsets[i]:offsets[i + 1]]``.
        values: [K] int64, ascending within an item.
    """

    size: int
    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def read(cls, path: Path, *, item_ids: pd.Index, most: int) -> Tags:
        """Read every ``tags_*`` column of the ``items`` table; equal words of two columns are two tags.

        Raises:
            UserError: an item of the fold is not in the table.
        """
        table = read_table(path)
        rows = pd.Index(table[names.ITEM_ID].to_pandas()).get_indexer(item_ids)
        if (rows < 0).any():
            raise UserError(
                f"{path}: {int((rows < 0).sum())} items of the fold are missing, "
                f"e.g. {item_ids[rows < 0][:3].tolist()}",
                remedy="run ingest and split again: the catalogue has changed between them",
            )
        items, words = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=object)]
        for name in table.column_names:
            if name.startswith(names.TAGS_PREFIX):
                lists = table[name].combine_chunks().take(pa.array(rows))
                flat = lists.flatten()
                known = flat.is_valid()
                items.append(pc.list_parent_indices(lists).filter(known).to_numpy().astype(np.int64))
                words.append(np.array([f"{name}={word}" for word in flat.filter(known).to_pylist()], dtype=object))
        item, word = np.concatenate(items), np.concatenate(words)
        code, vocabulary = pd.factorize(word, sort=True)
        pairs = np.unique(item * max(len(vocabulary), 1) + code)
        item, code = np.divmod(pairs, max(len(vocabulary), 1))
        order = np.argsort(-np.bincount(code, minlength=len(vocabulary)), kind="stable")[:most]
        number = np.full(len(vocabulary) + 1, -1, dtype=np.int64)
        number[order] = np.arange(len(order))
        kept = number[code] >= 0
        item, tag = item[kept], number[code[kept]]
        within = np.lexsort((tag, item))
        offsets = np.searchsorted(item[within], np.arange(len(item_ids) + 1))
        return cls(len(order), offsets.astype(np.int64), tag[within])

    def category(self) -> np.ndarray:
        """[I] int64: the item's most frequent tag, T where it has none."""
        result = np.full(len(self.offsets) - 1, self.size, dtype=np.int64)
        some = self.offsets[1:] > self.offsets[:-1]
        result[some] = self.values[self.offsets[:-1][some]]
        return result
