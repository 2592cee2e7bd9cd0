"""Raw columns → canonical types, whole columns at a time.

Each function takes a column of n values and gives the converted array and an [n] bool mask of values that could not
be converted (null in the result). Nulls are no faults here.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TimeUnit = Literal["s", "ms", "us", "iso"]

_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array, dictionaries decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def to_ids(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids as int64 if all of them are integers (or texts that are exactly an integer's), else as strings.

    A line break within an id is a fault: it comes from an unbalanced quote.
    """
    values = plain(column)
    if pa.types.is_integer(values.type) and values.type != pa.uint64():
        return values.cast(pa.int64()), _none(values)
    texts = to_text(values)
    broken = _mask(pc.match_substring(texts, "\n"))
    if broken.any():
        texts = pc.if_else(pa.array(broken), pa.scalar(None, pa.string()), texts)
    if _mask(pc.match_substring_regex(texts, _INTEGER), null=True).all() and texts.null_count < len(texts):
        try:
            return texts.cast(pa.int64()), broken
        except pa.ArrowInvalid:  # 19 digits that are too many for 64 bits
            pass
    return texts, broken


def unify_ids(
    parts: list[pa.Array], *, kind: Literal["auto", "string", "int64"] = "auto"
) -> tuple[list[pa.Array], bool]:
    """Arrays of ids in one type; False if ``int64`` is asked for and some id is none."""
    number = all(pa.types.is_integer(part.type) for part in parts)
    if kind == "string" or not number:
        return [part.cast(pa.string()) for part in parts], kind != "int64"
    return parts, True


def to_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Texts; numbers as they are written (12.0 as 12)."""
    values = plain(column)
    if pa.types.is_floating(values.type):
        whole = pc.fill_null(pc.equal(pc.floor(values), values), True)
        if pc.all(whole).as_py() is not False:
            with suppress(pa.ArrowInvalid):
                values = values.cast(pa.int64())
    return values.cast(pa.string())


def to_numbers(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """float64; NaN becomes null."""
    values = plain(column)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        numbers, broken = _parse_numbers(values)
    elif pa.types.is_boolean(values.type):
        numbers, broken = values.cast(pa.int8()).cast(pa.float64()), _none(values)
    else:
        try:
            numbers, broken = values.cast(pa.float64(), safe=False), _none(values)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return pa.nulls(len(values), pa.float64()), _mask(values.is_valid())
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers), broken


def to_times(
    column: pa.ChunkedArray | pa.Array, *, unit: TimeUnit, origin: datetime = _EPOCH
) -> tuple[pa.Array, np.ndarray]:
    """timestamp[us, UTC]. What has no zone is taken as UTC; what lies beyond the year 9999 is put there.

    Args:
        unit: of numbers, or ``iso`` for ISO 8601 texts; columns that are timestamps already need none.
        origin: the time from which numbers count.
    """
    values = plain(column)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        if pa.types.is_timestamp(values.type) and values.type.tz is None:
            values = pc.assume_timezone(values, "UTC")
        return values.cast(pa.timestamp("us", "UTC"), safe=False), _none(values)
    if unit == "iso":
        return _parse_iso(to_text(values))
    numbers, broken = to_numbers(values)
    shift = int((origin - _EPOCH).total_seconds()) * 1_000_000
    micros = pc.multiply(numbers, float(_MICROSECONDS[unit]))
    limit = float((_LAST - _EPOCH).total_seconds()) * 1e6 - abs(shift)
    micros = pc.max_element_wise(
        pc.min_element_wise(micros, pa.scalar(limit), skip_nulls=False), pa.scalar(-limit), skip_nulls=False
    )
    whole = pc.add(pc.round(micros).cast(pa.int64(), safe=False), shift)
    return whole.cast(pa.timestamp("us", "UTC")), broken


def to_lists(column: pa.ChunkedArray | pa.Array, *, separator: str | None = None) -> pa.Array:
    """list<string> of lists, or of texts that ``separator`` joins: trimmed, without empties and repeats, never null."""
    values = plain(column)
    if not (
        pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type)
    ):
        texts = to_text(values)
        if separator is None:
            return lists_of(texts, np.arange(len(texts)), count=len(texts))
        values = pc.split_pattern(texts, separator)
    parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
    return lists_of(to_text(values.flatten()), parents, count=len(values))


def lists_of(texts: pa.Array, parents: np.ndarray, *, count: int) -> pa.Array:
    """Gather texts into lists.

    Args:
        texts: [m] strings; parents: [m] the list of each, ascending; count: number of lists.

    Returns:
        [count] list<string>: trimmed texts in order, without nulls, empties and repeats.
    """
    texts = pc.utf8_trim_whitespace(texts)
    kept = _mask(pc.greater(pc.binary_length(texts), 0))
    codes = texts.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    kept &= ~pd.DataFrame({"parent": parents, "text": codes}).duplicated().to_numpy()
    sizes = np.bincount(parents[kept], minlength=count)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), texts.filter(pa.array(kept)))


def _parse_numbers(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    try:
        return texts.cast(pa.float64()), _none(texts)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(texts.to_pandas().str.strip(), errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        broken = np.isnan(numbers) & _mask(texts.is_valid())
        return pa.array(numbers, from_pandas=True), broken


def _parse_iso(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            parsed = texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        return (parsed if parsed.type.tz else pc.assume_timezone(parsed, "UTC")), _none(texts)
    times = pd.to_datetime(texts.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    parsed = pa.array(times, pa.timestamp("us", "UTC"))
    return parsed, _mask(parsed.is_null()) & _mask(texts.is_valid())


def _none(values: pa.Array) -> np.ndarray:
    return np.zeros(len(values), dtype=bool)


def _mask(values: pa.Array, null: bool = False) -> np.ndarray:
    mask: np.ndarray = pc.fill_null(values, null).to_numpy(zero_copy_only=False)
    return mask
