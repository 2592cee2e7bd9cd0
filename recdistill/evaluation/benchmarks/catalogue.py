"""Tags and labels of the catalogue as sparse matrices.

Shapes: I items, T distinct tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.retrieval.overlap import multi_hot


@dataclass(frozen=True)
class Catalogue:
    """The tag and label fields of the items, in the fold's order.

    Attributes:
        tags: field → [I, T] float32, 1 where an item has a tag.
        labels: the same for judges' labels.
        classes: [I] number of each item's first label in the first label field, -1 without; None without such a field.
    """

    tags: dict[str, sparse.csr_matrix]
    labels: dict[str, sparse.csr_matrix]
    classes: np.ndarray | None

    @classmethod
    def read(cls, path: Path, item_ids: pd.Index) -> Catalogue:
        """Read the item table's list columns.

        Raises:
            UserError: an item of the fold is missing.
        """
        table = read_table(path)
        rows = pd.Index(table[names.ITEM_ID].to_pandas()).get_indexer(item_ids)
        if (rows < 0).any():
            raise UserError(
                f"{path}: {int((rows < 0).sum())} items of the split are missing, "
                f"e.g. {item_ids[rows < 0][:3].tolist()}",
                remedy="run the split stage again on this item table",
            )
        table = table.take(pa.array(rows))
        tags, labels = (_family(table, prefix) for prefix in (names.TAGS_PREFIX, names.LABELS_PREFIX))
        first = next(iter(labels), None)
        return cls(tags, labels, None if first is None else _first(table[names.LABELS_PREFIX + first]))

    def described(self) -> sparse.csr_matrix | None:
        """[I, T] all labels, else all tags; None where the catalogue has neither."""
        fields = [matrix for matrix in (self.labels or self.tags).values() if matrix.shape[1]]
        return sparse.hstack(fields, format="csr") if fields else None


def jaccard(matrix: sparse.csr_matrix, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[P] Jaccard similarity of the tag sets of items ``first`` and ``second``; 0 where both are empty."""
    size = np.asarray(matrix.sum(axis=1)).ravel()
    common = np.asarray(matrix[first].multiply(matrix[second]).sum(axis=1)).ravel()
    union = size[first] + size[second] - common
    return np.divide(common, union, out=np.zeros(len(common)), where=union > 0)


def _family(table: pa.Table, prefix: str) -> dict[str, sparse.csr_matrix]:
    columns = [column for column in table.column_names if column.startswith(prefix)]
    return {column.removeprefix(prefix): multi_hot(table[column])[0] for column in columns}


def _first(column: pa.ChunkedArray) -> np.ndarray:
    lists = column.combine_chunks()
    filled = pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0).to_numpy(zero_copy_only=False)
    classes = np.full(len(lists), -1, dtype=np.int64)
    classes[filled] = pd.factorize(pc.list_element(lists.filter(pa.array(filled)), 0).to_pandas())[0]
    return classes
