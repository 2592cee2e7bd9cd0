"""The rules that a column can break, each as a function: Arrow array of n values → [n] bool, true where it is broken.

Null is never a breach here; whether nulls are allowed is a rule of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def is_null(column: pa.Array) -> np.ndarray:
    """Where nothing stands."""
    return _mask(column.is_null())


def has_null_element(column: pa.Array) -> np.ndarray:
    """Where a list contains a null."""
    broken = np.zeros(len(column), dtype=bool)
    broken[_parents(column)[_mask(column.flatten().is_null())]] = True
    return broken


def is_empty_list(column: pa.Array) -> np.ndarray:
    """Where a list has no element."""
    return _mask(pc.equal(pc.list_value_length(column), 0))


def is_not_finite(column: pa.Array) -> np.ndarray:
    """Where a number, or a number within a list, is NaN or infinite."""
    if pa.types.is_floating(column.type):
        return ~_mask(pc.is_finite(column), null=True)
    broken = np.zeros(len(column), dtype=bool)
    broken[_parents(column)[~_mask(pc.is_finite(column.flatten()), null=True)]] = True
    return broken


def is_below(column: pa.Array, minimum: float) -> np.ndarray:
    """Where a number is less than the minimum."""
    return _mask(pc.less(column, minimum))


def is_above(column: pa.Array, maximum: float) -> np.ndarray:
    """Where a number is more than the maximum."""
    return _mask(pc.greater(column, maximum))


def is_before(column: pa.Array, time: datetime) -> np.ndarray:
    """Where a timestamp is earlier than ``time``."""
    return _mask(pc.less(column, pa.scalar(time, column.type)))


def is_after(column: pa.Array, time: datetime) -> np.ndarray:
    """Where a timestamp is later than ``time``."""
    return _mask(pc.greater(column, pa.scalar(time, column.type)))


def does_not_match(column: pa.Array, pattern: str) -> np.ndarray:
    """Where a string does not match a regular expression."""
    return ~_mask(pc.match_substring_regex(column, pattern), null=True)


def is_unknown(column: pa.Array, known: pa.Array) -> np.ndarray:
    """Where an id, or an id within a list, is not among the known ones; integers and their texts are the same id."""
    nested = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    values = column.flatten() if nested else column
    if values.type != known.type:
        values, known = values.cast(pa.string()), known.cast(pa.string())
    unknown = ~_mask(pc.is_in(values, value_set=known)) & ~_mask(values.is_null())
    if not nested:
        return unknown
    broken = np.zeros(len(column), dtype=bool)
    broken[_parents(column)[unknown]] = True
    return broken


def is_no_file(column: pa.Array) -> np.ndarray:
    """Where a path names no file."""
    return np.fromiter(
        (path is not None and not os.path.isfile(path) for path in column.to_pylist()), bool, len(column)
    )


def list_lengths(column: pa.Array) -> np.ndarray:
    """[n] int64 lengths of lists, -1 for null."""
    return pc.fill_null(pc.cast(pc.list_value_length(column), pa.int64()), -1).to_numpy(zero_copy_only=False)


def not_exactly_one(columns: list[pa.Array]) -> np.ndarray:
    """Where none, or more than one, of several columns has a value."""
    return np.sum([_mask(column.is_valid()) for column in columns], axis=0) != 1


def broken_by(
    rule: str, arguments: Mapping[str, Any], column: pa.Array, *, latest: datetime, known: Mapping[str, pa.Array]
) -> np.ndarray:
    """Apply a column rule of a contract by its name.

    Args:
        latest: the time that ``not_in_future`` allows.
        known: ids by ``table.column``; a reference to a table that is not given cannot be judged and holds.
    """
    if rule == "finite":
        return is_not_finite(column)
    if rule == "not_before":
        return is_before(column, datetime.fromisoformat(arguments["time"]))
    if rule == "not_in_future":
        return is_after(column, latest)
    if rule == "not_empty_lists":
        return is_empty_list(column)
    if rule == "references":
        to = arguments["to"]
        return is_unknown(column, known[to]) if to in known else np.zeros(len(column), dtype=bool)
    if rule == "file_exists":
        return is_no_file(column)
    raise ValueError(f"unknown rule '{rule}'")


def _parents(lists: pa.Array) -> np.ndarray:
    parents: np.ndarray = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return parents


def _mask(values: pa.Array, null: bool = False) -> np.ndarray:
    mask: np.ndarray = pc.fill_null(values, null).to_numpy(zero_copy_only=False)
    return mask
