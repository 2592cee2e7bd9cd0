"""Raw columns become canonical types without loss, and faults are found where they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.ingest.convert import (
    lists_of,
    not_text,
    plain,
    to_ids,
    to_lists,
    to_numbers,
    to_text,
    to_times,
    unify_ids,
)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_integers_survive_as_ids_whatever_they_are_written_in(values: list[int | None]) -> None:
    texts = pa.array([None if v is None else str(v) for v in values], pa.string())
    for column in (pa.array(values, pa.int64()), texts):
        ids, broken = to_ids(column)
        assert not broken.any()
        assert ids.cast(pa.string()).to_pylist() == texts.to_pylist()
        if any(v is not None for v in values):
            assert ids.type == pa.int64()


@pytest.mark.parametrize("text", ["0114709", "+1", "1.0", "-0", "tt1", "", " 1", "99999999999999999999"])
def test_texts_that_are_not_exactly_an_integer_stay_texts(text: str) -> None:
    ids, _ = to_ids(pa.array([text, "1"]))
    assert ids.type == pa.string() and ids.to_pylist() == [text, "1"]


def test_floats_of_integers_are_integers() -> None:
    assert to_ids(pa.array([1.0, None, 3.0]))[0].to_pylist() == [1, None, 3]
    assert to_text(pa.array([1.0, 2.5]))[0].to_pylist() == ["1", "2.5"]
    assert to_ids(pa.array(["a", "b", "a"]).dictionary_encode())[0].to_pylist() == ["a", "b", "a"]
    assert to_ids(pa.array([2**64 - 1], pa.uint64()))[0].to_pylist() == [str(2**64 - 1)]


def test_a_line_break_within_an_id_is_a_fault() -> None:
    ids, broken = to_ids(pa.array(["a", "b\nc"]))
    assert broken.tolist() == [False, True] and ids.to_pylist() == ["a", None]


def test_ids_take_one_type() -> None:
    parts, holds = unify_ids([pa.array([1, 2]), pa.array(["x"])])
    assert holds and [p.type for p in parts] == [pa.string(), pa.string()] and parts[0].to_pylist() == ["1", "2"]
    assert unify_ids([pa.array([1])], kind="string")[0][0].to_pylist() == ["1"]
    assert unify_ids([pa.array(["x"])], kind="int64")[1] is False


def test_numbers() -> None:
    numbers, broken = to_numbers(pa.array(["1", " 2.5 ", "x", None, "nan", "1e3"]))
    assert numbers.to_pylist() == [1.0, 2.5, None, None, None, 1000.0]
    assert broken.tolist()[:4] == [False, False, True, False] and not broken[5]
    assert to_numbers(pa.array([True, False]))[0].to_pylist() == [1.0, 0.0]
    assert to_numbers(pa.array([float("nan"), 1.0]))[0].to_pylist() == [None, 1.0]
    numbers, broken = to_numbers(pa.array([[1.0]]))
    assert broken.tolist() == [True] and numbers.to_pylist() == [None]


TIME = datetime(2019, 11, 15, 8, 55, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("s", ["1573808122", "1573808122.0"]),
        ("ms", ["1573808122000"]),
        ("us", ["1573808122000000"]),
        ("iso", ["2019-11-15T08:55:22Z", "2019-11-15T10:55:22+02:00"]),
        ("iso", ["2019-11-15T08:55:22", "2019-11-15 08:55:22"]),
        ("iso", ["2019-11-15T08:55:22Z", "2019-11-15 08:55:22"]),
    ],
)
def test_times(unit: str, values: list[str]) -> None:
    times, broken = to_times(pa.array(values), unit=unit)  # type: ignore[arg-type]
    assert times.type == pa.timestamp("us", "UTC") and not broken.any()
    assert times.to_pylist() == [TIME] * len(values)


def test_times_of_typed_columns_need_no_unit() -> None:
    for kind in (pa.timestamp("s"), pa.timestamp("ns", "UTC")):
        assert to_times(pa.array([TIME.replace(tzinfo=None)], kind), unit="s")[0].to_pylist() == [TIME]
    assert to_times(pa.array([TIME.date()]), unit="s")[0].to_pylist() == [datetime(2019, 11, 15, tzinfo=UTC)]


def test_faulty_and_enormous_times() -> None:
    times, broken = to_times(pa.array(["2019-13-01", "2019-11-15", None]), unit="iso")
    assert broken.tolist() == [True, False, False] and times.null_count == 2
    times, broken = to_times(pa.array(["1573808122000000", "x", None]), unit="s")  # microseconds taken for seconds
    assert broken.tolist() == [False, True, False] and times[0].as_py().year == 9999


@given(st.integers(-(10**9), 10**10), st.integers(0, 10**9))
def test_origin_shifts_times(seconds: int, origin: int) -> None:
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    times, _ = to_times(pa.array([seconds]), unit="s", origin=zero + timedelta(seconds=origin))
    assert times[0].as_py() == zero + timedelta(seconds=seconds + origin)


def test_lists() -> None:
    assert to_lists(pa.array(["a| b ||a", None, "", "c"]), separator="|")[0].to_pylist() == [["a", "b"], [], [], ["c"]]
    assert to_lists(pa.array(["a|b"]))[0].to_pylist() == [["a|b"]]
    assert to_lists(pa.array([["x", None, "x", " y"], None, []]))[0].to_pylist() == [["x", "y"], [], []]
    assert to_lists(pa.array([["x"], ["y", "z"]]).slice(1))[0].to_pylist() == [["y", "z"]]
    assert to_lists(pa.array([[1, 2], [2]], pa.large_list(pa.int64())))[0].to_pylist() == [["1", "2"], ["2"]]


@given(st.lists(st.lists(st.sampled_from(["a", "b", " ", "", "c "]), max_size=4), max_size=6))
def test_lists_of_equals_the_plain_loop(lists: list[list[str]]) -> None:
    expected = [list(dict.fromkeys(t.strip() for t in texts if t.strip())) for texts in lists]
    flat = pa.array([t for texts in lists for t in texts], pa.string())
    parents = np.repeat(np.arange(len(lists)), [len(texts) for texts in lists]).astype(np.int64)
    assert lists_of(flat, parents, count=len(lists)).to_pylist() == expected


def test_what_has_no_text_is_a_fault() -> None:
    assert to_text(pa.array([b"a", None, b"\xff"]))[1].tolist() == [False, False, True]
    assert to_text(pa.array([b"a", None, b"\xff"]))[0].to_pylist() == ["a", None, None]
    for column in (pa.array([["a"], None]), pa.array([{"a": 1}, None]), pa.array([bytes([255] * 16), None], pa.uuid())):
        for texts, broken in (to_text(column), to_ids(column), to_times(column, unit="iso")):
            assert broken.tolist() == [True, False] and texts.null_count == 2
    lists, broken = to_lists(pa.array([[{"a": 1}], [], None]))
    assert broken.tolist() == [True, False, False] and lists.to_pylist() == [[], [], []]
    assert not_text(pa.struct([("a", pa.int64())]))[0] == "wrong type: struct<a: int64> instead of text"


@pytest.mark.parametrize("kind", [pa.list_view(pa.string()), pa.large_list_view(pa.string_view())])
def test_views_are_as_good_as_what_they_view(kind: pa.DataType) -> None:
    values = [["x"], None, [], ["y", "z"]]
    for start in (0, 1):
        column = pa.array(values, kind).slice(start)
        assert plain(column).to_pylist() == values[start:]
        assert to_lists(column)[0].to_pylist() == [v or [] for v in values[start:]]
    assert to_ids(pa.array(["1", None], pa.string_view()))[0].to_pylist() == [1, None]
    nested = pa.array([{"a": b"x"}, None], pa.struct([("a", pa.binary_view())]))
    assert plain(nested).type == pa.struct([("a", pa.binary())]) and plain(nested).to_pylist() == [{"a": b"x"}, None]


def test_nan_is_no_id_and_no_text() -> None:
    ids, broken = to_ids(pa.array([10.0, 11.0, float("nan")]))
    assert ids.type == pa.int64() and ids.to_pylist() == [10, 11, None] and not broken.any()
    assert to_text(pa.array([2.5, float("nan")]))[0].to_pylist() == ["2.5", None]
    assert to_text(pa.array(np.array([1, 2.5], np.float16)))[0].to_pylist() == ["1", "2.5"]


def test_an_id_is_written_alike_whatever_its_neighbours() -> None:
    assert to_text(pa.array([1e16, 2.5]))[0].to_pylist() == ["10000000000000000", "2.5"]


@pytest.mark.parametrize("digits", ["1234567", "123456789", "123456999999999"])
def test_times_finer_than_microseconds_are_cut(digits: str) -> None:
    cut = TIME.replace(microsecond=123456)
    for texts in ([f"2019-11-15T08:55:22.{digits}Z"] * 2, [f"2019-11-15 08:55:22.{digits}", "2019-11-15T08:55:22Z"]):
        times, broken = to_times(pa.array(texts), unit="iso")
        assert times[0].as_py() == cut and not broken.any()


def test_parts_without_ids_do_not_change_the_type() -> None:
    nothing = [pa.array([], pa.string()), pa.array([None], pa.string())]
    for kind in ("auto", "int64"):
        parts, holds = unify_ids([pa.array([1]), *nothing], kind=kind)  # type: ignore[arg-type]
        assert holds and {part.type for part in parts} == {pa.int64()} and len(parts[2]) == 1
    assert unify_ids([pa.array([None], pa.int64()), pa.array(["a"])])[0][1].to_pylist() == ["a"]
    assert unify_ids(nothing)[0][0].type == pa.string() and unify_ids(nothing, kind="int64")[1]
