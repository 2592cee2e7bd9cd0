"""Every rule finds just what is planted, whatever the chunks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts import validate as module
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.validate import ContractViolations, Violation, validate, violations_of
from recdistill.contracts.violations import SHOWN, Violations

UTC_TIME = pa.timestamp("us", "UTC")
EMBEDDING = pa.list_(pa.float32())


def interactions(count: int = 6, **changes: Any) -> pa.Table:
    columns: dict[str, Any] = {
        "user_id": [f"u{row}" for row in range(count)],
        "item_id": [f"i{row}" for row in range(count)],
        "timestamp": pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * count, UTC_TIME),
        "behaviours": pa.array([["like"]] * count, pa.list_(pa.string())),
    }
    return pa.table({name: value for name, value in (columns | changes).items() if value is not None})


def check(tmp_path: Path, table: pa.Table, contract: str, **known: pa.Array) -> list[Violation]:
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    return violations_of(path, contract, known={name.replace("__", "."): ids for name, ids in known.items()})


def embeddings(rows: list[list[float] | None], ids: list[Any] | None = None) -> pa.Table:
    return pa.table({"item_id": ids or [f"i{row}" for row in range(len(rows))], "embedding": pa.array(rows, EMBEDDING)})


def test_a_sound_table_has_no_violation(tmp_path: Path) -> None:
    assert check(tmp_path, interactions(), "interactions", items__item_id=pa.array([f"i{r}" for r in range(6)])) == []


def test_missing_column_names_the_nearest_found(tmp_path: Path) -> None:
    table = interactions().rename_columns(["user_id", "item_ids", "timestamp", "behaviours"])
    (violation,) = check(tmp_path, table, "interactions")
    assert (violation.column, violation.rule) == ("item_id", "missing column")
    assert violation.remedy.startswith("did you mean 'item_ids'?")


def test_wrong_type_shows_first_values(tmp_path: Path) -> None:
    (violation,) = check(tmp_path, interactions(timestamp=["2020-01-01"] * 6), "interactions")
    assert violation.rule == "wrong type: string instead of timestamp[us, UTC]"
    assert violation.count == 6 and violation.rows == (1, 2, 3, 4, 5) and violation.values[0] == "'2020-01-01'"


def test_nulls_and_null_elements(tmp_path: Path) -> None:
    table = interactions(
        user_id=["u", None, "u", "u", None, "u"],
        behaviours=pa.array([["like"], [], [None], None, ["like", None], []], pa.list_(pa.string())),
    )
    found = {(v.column, v.rule): v for v in check(tmp_path, table, "interactions")}
    assert found.keys() == {("user_id", "null"), ("behaviours", "null"), ("behaviours", "null within a list")}
    assert found["user_id", "null"].rows == (2, 5)
    assert found["behaviours", "null"].rows == (4,)
    assert found["behaviours", "null within a list"].rows == (3, 5)


def test_times_in_the_future_and_absurd(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    days = [datetime(1970, 1, 1, tzinfo=UTC), datetime(1979, 12, 31, tzinfo=UTC), datetime(1980, 1, 1, tzinfo=UTC)]
    times = [*days, now, now + timedelta(hours=1), now + timedelta(days=400)]
    found = {v.rule: v for v in check(tmp_path, interactions(timestamp=pa.array(times, UTC_TIME)), "interactions")}
    assert found["before 1980-01-01T00:00:00Z"].rows == (1, 2)
    assert found["before 1980-01-01T00:00:00Z"].values[0].startswith("'1970-01-01T00:00:00")
    assert found["in the future"].rows == (5, 6)


def test_unknown_items_and_lists_of_references(tmp_path: Path) -> None:
    known = pa.array(["i0", "i1", "i2"])
    (violation,) = check(tmp_path, interactions(), "interactions", items__item_id=known)
    assert (
        violation.rule == "not in items.item_id" and violation.rows == (4, 5, 6) and "unknown_items" in violation.remedy
    )
    items = pa.table({"item_id": [1, 2, 3], "images": pa.array([["a"], [], ["a", "zz"]], pa.list_(pa.string()))})
    (violation,) = check(tmp_path, items, "items", media__media_id=pa.array(["a"]))
    assert violation.column == "images" and violation.rows == (3,)


def test_integer_ids_and_their_texts_are_the_same(tmp_path: Path) -> None:
    table = interactions(item_id=pa.array(range(6), pa.int64()))
    assert check(tmp_path, table, "interactions", items__item_id=pa.array([str(n) for n in range(6)])) == []


def test_a_column_of_nulls_may_lack_its_type(tmp_path: Path) -> None:
    table = pa.table({"item_id": [1, 2], "text_title": pa.nulls(2), "number_year": pa.nulls(2)})
    assert check(tmp_path, table, "items") == []
    (violation,) = check(tmp_path, table.append_column("tags_genre", pa.nulls(2)), "items")
    assert (violation.column, violation.rule, violation.count) == ("tags_genre", "null", 2)


def test_duplicate_keys_name_the_repeats(tmp_path: Path) -> None:
    table = pa.table({"item_id": ["a", "b", "a", "c", "a"]})
    (violation,) = check(tmp_path, table, "items")
    assert (
        violation.rule.startswith("duplicate key") and violation.rows == (3, 5) and violation.values == ("'a'", "'a'")
    )


def test_composite_keys_with_null(tmp_path: Path) -> None:
    key = {
        "subject": "student",
        "benchmark": "b",
        "split": "all",
        "metric": "auc",
        "seed": 0,
        "fold": "time",
        "unit": None,
    }
    row = key | {"total": 1.0, "count": 1.0, "low": None, "high": None}
    rows = [row, row | {"seed": 1}, row, row | {"unit": "u"}]
    table = pa.Table.from_pylist(rows).set_column(9, "low", pa.nulls(4, pa.float64()))
    table = table.set_column(10, "high", pa.nulls(4, pa.float64()))
    (violation,) = check(tmp_path, table, "metric_records")
    assert violation.rows == (3,) and violation.column == "subject, benchmark, split, metric, seed, fold, unit"


def test_empty_tables(tmp_path: Path) -> None:
    (violation,) = check(tmp_path, interactions().slice(0, 0), "interactions")
    assert violation.rule.startswith("no rows")
    pairs = pa.table({"user_id": pa.array([], pa.string()), "query_item_ids": pa.array([], pa.list_(pa.string())),
                      "target_item_id": pa.array([], pa.string()), "perspective": pa.array([], pa.string()),
                      "timestamp": pa.array([], UTC_TIME)})  # fmt: skip
    assert check(tmp_path, pairs, "interest_pairs") == []  # a fit may mine nothing


def test_embeddings_finite_and_of_one_width(tmp_path: Path) -> None:
    table = embeddings([[1.0, 2.0], [1.0, float("nan")], [float("inf"), 0.0], [1.0, 2.0, 3.0], [1.0], [0.0, 0.0]])
    found = {v.rule: v for v in check(tmp_path, table, "teacher_embeddings")}
    assert found["NaN or infinite"].rows == (2, 3)
    assert found["lists of several widths (the first has 2)"].rows == (4, 5)
    assert found["lists of several widths (the first has 2)"].values == ("'3 values'", "'1 values'")


def test_fixed_size_lists_with_null_rows() -> None:
    vectors = pa.array([[1.0, 2.0], None, [float("nan"), 1.0]], pa.list_(pa.float32(), 2))
    into = Violations()  # not through a file: pyarrow does not read such rows back
    table = pa.table({"item_id": [1, 2, 3], "embedding": vectors})
    Checker(load_contract("item_embeddings"), into=into).add(table, Origin("file", np.arange(1, 4)))
    found = {v.rule: v for v in into}
    assert found.keys() == {"null", "NaN or infinite"}
    assert found["null"].rows == (2,) and found["NaN or infinite"].rows == (3,)


def test_bounds_and_patterns(tmp_path: Path) -> None:
    table = embeddings([[1.0]] * 3).append_column("confidence", pa.array([0.5, 1.5, -0.1], pa.float32()))
    found = {v.rule: v for v in check(tmp_path, table, "teacher_embeddings")}
    assert found["above 1"].rows == (2,) and found["below 0"].rows == (3,)
    (violation,) = check(tmp_path, pa.table({"item_id": ["a", "b"], "role": ["warm", "hot"]}), "split")
    assert violation.rows == (2,) and violation.values == ("'hot'",)


def test_media_have_exactly_one_source_that_exists(tmp_path: Path) -> None:
    there = tmp_path / "there.jpg"
    there.write_bytes(b"x")
    table = pa.table({
        "media_id": ["a", "b", "c", "d", "e"],
        "path": [str(there), str(tmp_path / "gone.jpg"), None, None, str(there)],
        "bytes": pa.array([None, None, b"x", None, b"x"], pa.binary()),
    })  # fmt: skip
    found = {v.rule: v for v in check(tmp_path, table, "media")}
    assert found["no such file"].rows == (2,)
    assert found["not exactly one of them is given"].rows == (4, 5)


def test_not_a_table_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    (violation,) = violations_of(path, "items")
    assert violation.rule.startswith("not a readable Parquet table")
    (violation,) = violations_of(tmp_path / "gone.parquet", "items")
    assert violation.rule == "no such file"


def test_all_violations_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(interactions(user_id=[None] * 6, behaviours=None, item_id=[1.5] * 6), path)
    with pytest.raises(ContractViolations) as caught:
        validate(path, "interactions")
    assert {v.column for v in caught.value.violations} == {"user_id", "behaviours", "item_id"}
    text = str(caught.value)
    assert "3 faults" in text and str(path) in text and "row 1" in text and text.count("remedy:") == 3


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "items.parquet"
    folder.mkdir()
    for number, ids in enumerate((["a", "b"], ["c", "a"])):
        pq.write_table(pa.table({"item_id": ids}), folder / f"part-{number}.parquet")
    (violation,) = violations_of(folder, "items")
    assert violation.rows == (4,)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_counts_and_rows_do_not_depend_on_chunks(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    null = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    ids = data.draw(st.lists(st.sampled_from("abcdef"), min_size=count, max_size=count))
    nan = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    vectors = [None if gone else [1.0, float("nan") if bad else 2.0] for gone, bad in zip(null, nan, strict=True)]
    table = embeddings(vectors, list(ids))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    into = Violations()
    checker = Checker(load_contract("teacher_embeddings"), into=into)
    for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
        checker.add(table.slice(start, stop - start), Origin("file", np.arange(start + 1, stop + 1)))
    checker.finish()
    found = {v.rule.split(" (")[0]: v for v in into}
    expected = {"null": null, "NaN or infinite": nan & ~null}
    expected["duplicate key"] = np.array([name in ids[:row] for row, name in enumerate(ids)])
    for rule, broken in expected.items():
        rows = np.flatnonzero(broken) + 1
        if not len(rows):
            assert rule not in found
        else:
            assert found[rule].count == len(rows) and found[rule].rows == tuple(rows[:SHOWN])


def test_memory_is_bounded_by_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.parquet"
    pq.write_table(interactions(5_000), path)
    seen: list[int] = []
    plain_add = Checker.add
    monkeypatch.setattr(module, "BATCH", 512)
    monkeypatch.setattr(
        Checker, "add", lambda self, chunk, origin: (seen.append(len(chunk)), plain_add(self, chunk, origin))[1]
    )
    assert violations_of(path, "interactions") == []
    assert sum(seen) == 5_000 and max(seen) <= 512
