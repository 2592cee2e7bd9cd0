"""Ids as users have them, checked before they are looked up.

A lookup of ids of another kind (``7`` among ``"7"``) finds nothing and says nothing: every item would be unknown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recdistill.errors import UserError

_KINDS = {"string": "str", "integer": "int64"}


def own_ids(values: Any, *, what: str) -> pd.Index:
    """Ids as an index of strings or int64; values may be a list, array, series (categorical too) or index.

    Raises:
        UserError: an id is null, or they are neither strings nor integers.
    """
    index = pd.Index(values)
    if isinstance(index.dtype, pd.CategoricalDtype):
        index = pd.Index(index.astype(index.dtype.categories.dtype))
    if index.hasnans:
        raise UserError(
            f"{what}: {int(index.isna().sum())} of {len(index)} ids are null",
            remedy="drop those rows, or give them an id that no item has",
        )
    if not len(index):
        return index
    kind = index.inferred_type
    if kind not in _KINDS:
        raise UserError(
            f"{what}: ids are {index.dtype} (e.g. {_example(index)}), neither strings nor integers",
            remedy="cast them to the kind that the log has: .astype('int64') or .astype('str')",
        )
    return index.astype(_KINDS[kind])


def like_ids(values: Any, *, known: pd.Index, what: str) -> pd.Index:
    """As :func:`own_ids`, and of the same kind as the known ones.

    Raises:
        UserError: as there, or they are of another kind than ``known``.
    """
    index = own_ids(values, what=what)
    if len(index) and len(known) and index.inferred_type != known.inferred_type:
        raise UserError(
            f"{what}: ids are {index.inferred_type}s (e.g. {_example(index)}), the export's are "
            f"{known.inferred_type}s (e.g. {_example(known)})",
            remedy=f"cast them: .astype('{_KINDS[known.inferred_type]}')",
        )
    return index


def positions(values: Any, *, known: pd.Index, what: str) -> np.ndarray:
    """[n] int64 place of each id among the known ones, -1 where it is not among them.

    Raises:
        UserError: as :func:`like_ids`.
    """
    return np.asarray(known.get_indexer(like_ids(values, known=known, what=what)), dtype=np.int64)


def _example(index: pd.Index) -> str:
    return repr(index[:1].tolist()[0])
