"""The query table of the generic adapter: what it becomes, what is dropped and counted, what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_helpers import ITEMS, LOG, generic, violations, write
from pydantic import ValidationError

from recdistill.contracts.validate import violations_of
from recdistill.contracts.violations import ContractViolations
from recdistill.ingest import DataConfig, check_tables, ingest, input_fingerprint

QUERIES = "q,doc,at,who,n,grade\nred shoes,2,1000000200,u2,3,0.5\n Hat ,1,1000000100,u1,1,1\nhat,3,1000000300,,0,\n"
COLUMNS = {"query": "q", "item": "doc", "timestamp": "at", "user": "who", "clicks": "n", "score": "grade"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, "log.csv", LOG)
    write(folder, "items.csv", ITEMS)
    write(folder, "queries.csv", QUERIES)
    return folder


def config(root: Path, columns: dict[str, str] | None = None, **more: Any) -> DataConfig:
    return generic(root, queries={"path": "queries.csv", "columns": columns or COLUMNS}, **more)


def rows_of(of: DataConfig, out: Path) -> list[dict[str, Any]]:
    ingest(of, out=out)
    return pq.read_table(out / "queries.parquet").to_pylist()


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "validation.json").read_text())
    return report


def test_golden(root: Path, tmp_path: Path) -> None:
    rows = rows_of(config(root), tmp_path / "out")
    at = datetime(2001, 9, 9, 1, 48, 20, tzinfo=UTC)
    assert rows[0] == {"query_text": "Hat", "item_id": 1, "timestamp": at, "user_id": "u1", "clicks": 1, "score": 1.0}
    assert [(row["query_text"], row["item_id"], row["user_id"]) for row in rows[1:]] == [
        ("red shoes", 2, "u2"), ("hat", 3, None),
    ]  # fmt: skip
    assert [row["clicks"] for row in rows] == [1, 3, 0] and rows[2]["score"] is None
    report = report_of(tmp_path / "out")
    assert report["queries"] == {
        "events": 3, "queries": 3, "items": 3, "users": 2,
        "first": "2001-09-09T01:48:20+00:00", "last": "2001-09-09T01:51:40+00:00",
    }  # fmt: skip
    assert report["contracts"].keys() == {"interactions", "items", "media", "queries"}
    known = {"items.item_id": pa.array([1, 2, 3])}
    assert violations_of(tmp_path / "out" / "queries.parquet", "queries", known=known) == []


def test_without_the_section_there_is_no_table(root: Path, tmp_path: Path) -> None:
    ingest(generic(root), out=tmp_path)
    assert not (tmp_path / "queries.parquet").exists() and "queries" not in report_of(tmp_path)


def test_only_the_generic_adapter_reads_queries(root: Path) -> None:
    section = {"adapter": "movielens", "queries": {"path": "queries.csv", "columns": COLUMNS}}
    with pytest.raises(ValidationError, match="'queries' belongs to the generic adapter"):
        DataConfig.model_validate(section)


def test_the_order_of_rows_does_not_show(root: Path, tmp_path: Path) -> None:
    plain = rows_of(config(root), tmp_path / "plain")
    head, *lines = QUERIES.splitlines()
    write(root, "queries.csv", "\n".join([head, *reversed(lines)]))
    assert rows_of(config(root), tmp_path / "other") == plain


def test_rows_without_a_text_and_repeats_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    write(root, "queries.csv", QUERIES + ",1,1000000100,u1,1,1\n  ,1,1000000100,u1,1,1\nHat,1,1000000100,u1,1,1\n")
    assert len(rows_of(config(root), tmp_path)) == 3
    report = report_of(tmp_path)
    assert report["read"]["queries"]["rows_read"] == 6
    assert report["read"]["queries"]["dropped"] == {"no query text": 2, "exact duplicate": 1, "unknown item": 0}
    assert "queries dropped: 2 (no query text)" in report["warnings"]


def test_every_fault_is_told_with_its_row_and_column(root: Path, tmp_path: Path) -> None:
    bad = "x,1,soon,u1,1,1\nx,,1000000100,u1,1,1\nx,1,1000000100,u1,1.5,1\nx,1,1000000100,u1,-1,2\nx,1,12,u1,1,much\n"
    write(root, "queries.csv", QUERIES + bad)
    found = {(v.column, v.rule): v.rows for v in violations(config(root), tmp_path / "out")}
    assert found == {
        ("at", "not a time in s"): (4,),
        ("doc", "null"): (5,),
        ("n", "not a whole number"): (6,),
        ("n", "below 0"): (7,),
        ("grade", "above 1"): (7,),
        ("grade", "not a number"): (8,),
    }


def test_times_before_anything_are_refused(root: Path, tmp_path: Path) -> None:
    write(root, "queries.csv", QUERIES + "x,1,12,u1,1,1\n")
    (found,) = violations(config(root), tmp_path / "out")
    assert found.column == "at" and found.rule.startswith("before 1980")


def test_unknown_items_are_refused_or_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    write(root, "queries.csv", QUERIES + "x,77,1000000100,u1,1,1\n")
    (found,) = violations(config(root), tmp_path / "error")
    assert (found.column, found.values) == ("doc", ("77",)) and "set data.unknown_items to drop" in found.remedy
    for choice in ("drop", "add"):
        assert len(rows_of(config(root, unknown_items=choice), tmp_path / choice)) == 3
        assert report_of(tmp_path / choice)["read"]["queries"]["dropped"]["unknown item"] == 1
    write(root, "queries.csv", "q,doc,at\nx,77,1000000100\n")
    columns = {"query": "q", "item": "doc", "timestamp": "at"}
    (found,) = violations(config(root, columns, unknown_items="drop"), tmp_path / "none")
    assert found.rule == "no query's item is in the items table"


def test_ids_take_the_types_of_catalogue_and_log(root: Path, tmp_path: Path) -> None:
    rows = rows_of(config(root, item_ids="string"), tmp_path / "text")
    assert {row["item_id"] for row in rows} == {"1", "2", "3"}
    write(root, "log.csv", LOG.replace("u", "").replace("ser", "user"))  # numbers
    (found,) = violations(config(root), tmp_path / "mixed")
    assert found.column == "who" and "data.user_ids" in found.remedy
    rows = rows_of(config(root, user_ids="string"), tmp_path / "strings")
    assert {row["user_id"] for row in rows} == {"u1", "u2", None}


def test_a_missing_column_names_those_there_are(root: Path, tmp_path: Path) -> None:
    (found,) = violations(config(root, COLUMNS | {"clicks": "clix"}), tmp_path / "out")
    assert found.column == "clix" and found.rule == "missing column"


def test_the_table_is_part_of_the_fingerprint_and_is_checked(root: Path, tmp_path: Path) -> None:
    before = input_fingerprint(config(root))
    assert before != input_fingerprint(generic(root))
    ingest(config(root), out=tmp_path)
    write(root, "queries.csv", QUERIES + "x,1,1000000100,u1,1,1\n")
    assert input_fingerprint(config(root)) != before
    table = pq.read_table(tmp_path / "queries.parquet")
    pq.write_table(table.set_column(1, "item_id", pa.array([1, 2, 99])), tmp_path / "queries.parquet")
    with pytest.raises(ContractViolations, match=r"not in items\.item_id"):
        check_tables(tmp_path, tolerance_hours=0)
