"""The content that pairs are made of: tags and texts of the items, never their labels, which are the judges'.

Shapes: I items, V distinct values of a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.retrieval.hashing import hash_ids
from recdistill.retrieval.overlap import multi_hot

Tags = tuple[sparse.csr_matrix, list[str]]  # [I, V] 1 where an item has a value, and the V values


class Catalogue:
    """The items that both the item table and the split have.

    Attributes:
        ids: [I] ascending, so that nothing depends on the tables' order of rows.
        hashes: [I] uint64 of the ids.
        kind: Arrow type of the ids.
        tag_fields, text_fields: names of the fields, in the table's order.
    """

    def __init__(self, path: Path, known: pd.Index) -> None:
        """``known``: ids that the split has.

        Raises:
            UserError: the table is missing, or the two have no item in common.
        """
        column = read_table(path, columns=[names.ITEM_ID])[names.ITEM_ID]
        ids = pd.Index(column.to_pandas())
        order = ids.argsort()
        self._path, self._order = path, order[ids[order].isin(known)]
        self.ids, self.kind = ids[self._order], column.type
        if not len(self.ids):
            raise UserError(f"{path}: no item of the split is here", remedy="run the split stage again on this table")
        self.hashes = hash_ids(self.ids)
        columns = pq.read_schema(path).names
        self.tag_fields, self.text_fields = (
            [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
            for prefix in (names.TAGS_PREFIX, names.TEXT_PREFIX)
        )

    @cached_property
    def tags(self) -> dict[str, Tags]:
        """The tags of every field."""
        return {name: multi_hot(self._column(names.TAGS_PREFIX + name)) for name in self.tag_fields}

    def described(self, fields: Sequence[str]) -> sparse.csr_matrix:
        """[I, V] the tags of some fields beside each other."""
        return sparse.hstack([self.tags[name][0] for name in fields], format="csr")

    def texts(self, field: str) -> list[str]:
        """[I] texts of a field, "" where an item has none."""
        return [text or "" for text in self._column(names.TEXT_PREFIX + field).to_pylist()]

    def _column(self, name: str) -> pa.ChunkedArray:
        return read_table(self._path, columns=[name])[name].take(pa.array(np.asarray(self._order)))


def chosen_fields(asked: Sequence[str] | None, found: Sequence[str], *, what: str, key: str) -> list[str]:
    """The fields asked for, all that there are if None.

    Args:
        what: the kind of field, e.g. ``tags``; key: the setting that asks.

    Raises:
        UserError: a field asked for is not among those found.
    """
    lacking = [name for name in asked or () if name not in found]
    if lacking:
        raise UserError(
            f"{key}: the items table has no {what} field {', '.join(repr(name) for name in lacking)}",
            remedy=f"known {what} fields: {', '.join(found) or 'none'}",
        )
    return list(found if asked is None else asked)
