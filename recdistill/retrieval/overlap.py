"""Likeness of items by the values that they share (tags, labels, n-grams), rare ones counting more.

Shapes: I items, V distinct values, Q items asked.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse


def multi_hot(column: pa.ChunkedArray) -> tuple[sparse.csr_matrix, list[str]]:
    """A column of lists as [I, V] float32, 1 where an item has a value, and the V values as they first occur."""
    lists = column.combine_chunks()
    values = pc.dictionary_encode(lists.flatten())
    codes, rows = values.indices.to_numpy(zero_copy_only=False), pc.list_parent_indices(lists).to_numpy()
    held = ~pd.isna(codes)
    shape = (len(lists), len(values.dictionary))
    ones = np.ones(int(held.sum()), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, (rows[held], codes[held].astype(np.int64))), shape)
    matrix.data[:] = 1.0  # an item that names a value twice has it once
    return matrix, values.dictionary.to_pylist()


class Overlap:
    """Jaccard similarity of the items' sets of values, each weighted by its inverse document frequency log(I / df).

    Attributes:
        total: [I] float64, the weight of all values of each item.
    """

    def __init__(self, described: sparse.csr_matrix) -> None:
        """``described``: [I, V] 1 where an item has a value."""
        share = np.asarray(described.mean(axis=0)).ravel()
        weight = np.log(1 / np.maximum(share, 1e-12))  # a value that all items have says nothing
        self._described = described
        self._weighted = sparse.csr_matrix(described @ sparse.diags_array(weight))
        self.total: np.ndarray = np.asarray(self._weighted.sum(axis=1)).ravel()

    def similarity(self, rows: np.ndarray) -> sparse.csr_matrix:
        """[Q, I] float64 similarity of item ``rows`` to all items, themselves included; absent where nothing is shared.

        Memory: 12 bytes a pair of an asked item and one that shares a value with it.
        """
        common = sparse.csr_matrix(self._weighted[rows] @ self._described.T)
        asked = np.repeat(self.total[rows], np.diff(common.indptr))
        common.data = common.data / np.maximum(asked + self.total[common.indices] - common.data, 1e-12)
        return common
