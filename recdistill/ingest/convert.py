"""Raw columns → canonical types, whole columns at a time.

Each function takes a column of n values and gives the converted array and an [n] bool mask of values that could not
be converted (null in the result). Nulls are no faults here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TimeUnit = Literal["s", "ms", "us", "iso"]

_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_FINER = r"([.,][0-9]{6})[0-9]+"  # fractions of a second beyond microseconds
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array of an ordinary type: dictionaries, extensions and views unwrapped, NaN as null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(column.storage)
    if pa.types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.binary())
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        nan = pc.is_nan(numbers)
        return pc.if_else(nan, pa.scalar(None, numbers.type), numbers) if pc.any(nan).as_py() else numbers
    if pa.types.is_struct(kind) and kind.num_fields:
        parts = [plain(part) for part in column.flatten()]
        if [part.type for part in parts] == [part.type for part in kind.fields]:
            return column
        return pa.StructArray.from_arrays(parts, names=kind.names, mask=column.is_null())
    return _plain_lists(column)


def to_ids(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids as int64 if all of them are integers (or texts that are exactly an integer's), else as strings.

    A line break within an id is a fault: it comes from an unbalanced quote.
    """
    values = plain(column)
    if pa.types.is_integer(values.type) and values.type != pa.uint64():
        return values.cast(pa.int64()), _none(values)
    texts, unwritten = to_text(values)
    broken = _mask(pc.match_substring(texts, "\n"))
    if broken.any():
        texts = pc.if_else(pa.array(broken), pa.scalar(None, pa.string()), texts)
    if _mask(pc.match_substring_regex(texts, _INTEGER), null=True).all() and texts.null_count < len(texts):
        try:
            return texts.cast(pa.int64()), broken | unwritten
        except pa.ArrowInvalid:  # 19 digits that are too many for 64 bits
            pass
    return texts, broken | unwritten


def unify_ids(
    parts: list[pa.Array], *, kind: Literal["auto", "string", "int64"] = "auto"
) -> tuple[list[pa.Array], bool]:
    """Arrays of ids in one type; False if ``int64`` is asked for and some id is none.

    Arrays without any id have no say: an empty part file must not turn the integers of the others into texts.
    """
    telling = [part for part in parts if part.null_count < len(part)]
    number = all(pa.types.is_integer(part.type) for part in telling) and (bool(telling) or kind == "int64")
    if kind == "string" or not number:
        return [part.cast(pa.string()) for part in parts], kind != "int64"
    return [part.cast(pa.int64()) for part in parts], True


def to_text(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Texts; numbers as they are written (12.0 as 12). ``not_text`` says why a value has none."""
    values = plain(column)
    if pa.types.is_floating(values.type):
        return _written(values), _none(values)
    try:
        return values.cast(pa.string()), _none(values)
    except pa.ArrowNotImplementedError:  # lists, structs, maps
        return pa.nulls(len(values), pa.string()), _mask(values.is_valid())
    except pa.ArrowInvalid:
        if not _is_binary(values.type):
            raise
        broken = np.fromiter((_is_no_utf8(value.as_py()) for value in values), bool, len(values))
        return pc.if_else(pa.array(broken), pa.scalar(None, values.type), values).cast(pa.string()), broken


def not_text(kind: pa.DataType) -> tuple[str, str]:
    """Why values of a raw column's type are no texts, and the remedy."""
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    if _is_binary(kind):
        return (
            f"wrong type: {kind} that is not UTF-8 instead of text",
            "write it as text (UUIDs as 36 characters)",
        )
    return f"wrong type: {kind} instead of text", "write the column as text or numbers, or map another one"


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
        texts, unwritten = to_text(values)
        times, broken = _parse_iso(texts)
        return times, broken | unwritten
    numbers, broken = to_numbers(values)
    shift = int((origin - _EPOCH).total_seconds()) * 1_000_000
    micros = pc.multiply(numbers, float(_MICROSECONDS[unit]))
    limit = float((_LAST - _EPOCH).total_seconds()) * 1e6 - abs(shift)
    micros = pc.max_element_wise(
        pc.min_element_wise(micros, pa.scalar(limit), skip_nulls=False), pa.scalar(-limit), skip_nulls=False
    )
    whole = pc.add(pc.round(micros).cast(pa.int64(), safe=False), shift)
    return whole.cast(pa.timestamp("us", "UTC")), broken


def to_lists(column: pa.ChunkedArray | pa.Array, *, separator: str | None = None) -> tuple[pa.Array, np.ndarray]:
    """list<string> of lists, or of texts that ``separator`` joins: trimmed, without empties and repeats, never null."""
    values = plain(column)
    broken = _none(values)
    if not is_list(values.type):
        texts, broken = to_text(values)
        if separator is None:
            return lists_of(texts, np.arange(len(texts)), count=len(texts)), broken
        values = pc.split_pattern(texts, separator)
    parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
    texts, unwritten = to_text(values.flatten())
    broken[parents[unwritten]] = True
    return lists_of(texts, parents, count=len(values)), broken


def is_list(kind: pa.DataType) -> bool:
    """Whether a plain column holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


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


def _plain_lists(column: pa.Array) -> pa.Array:
    kind = column.type
    view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    if not (view or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return column
    values = plain(column.flatten())
    if not view and values.type == kind.value_type:
        return column
    # Arrow 25 casts list views to lists, but loses elements.
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, values, mask=column.is_null())


def _written(numbers: pa.Array) -> pa.Array:
    # Each value by itself: an id must not be written otherwise because of its neighbours.
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**63))
    if pc.all(whole).as_py() is not False:
        return numbers.cast(pa.int64(), safe=False).cast(pa.string())
    integers = pc.if_else(whole, numbers, pa.scalar(0, numbers.type)).cast(pa.int64(), safe=False)
    return pc.if_else(whole, integers.cast(pa.string()), numbers.cast(pa.string()))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _is_no_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _parse_iso(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    for candidates in (texts, pc.replace_substring_regex(texts, _FINER, r"\1")):
        for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
            try:
                parsed = candidates.cast(kind)
            except pa.ArrowInvalid:
                continue
            return (parsed if parsed.type.tz else pc.assume_timezone(parsed, "UTC")), _none(texts)
    times = pd.to_datetime(candidates.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    parsed = pa.array(times, pa.timestamp("us", "UTC"))
    return parsed, _mask(parsed.is_null()) & _mask(texts.is_valid())


def _none(values: pa.Array) -> np.ndarray:
    return np.zeros(len(values), dtype=bool)


def _mask(values: pa.Array, null: bool = False) -> np.ndarray:
    mask: np.ndarray = pc.fill_null(values, null).to_numpy(zero_copy_only=False)
    return mask
