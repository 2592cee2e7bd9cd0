"""The generic adapter maps what the recipe says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_helpers import ITEMS, LIKE, LOG, generic, run, violations, write
from pydantic import ValidationError

from recdistill.contracts.validate import violations_of
from recdistill.ingest import DataConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, "log.csv", LOG)
    write(folder, "items.csv", ITEMS)
    return folder


def by_user_item(rows: list[dict[str, Any]]) -> dict[tuple[Any, Any], dict[str, Any]]:
    return {(row["user_id"], row["item_id"]): row for row in rows}


def test_golden(root: Path, tmp_path: Path) -> None:
    tables = run(generic(root), tmp_path / "out")
    rows = by_user_item(tables["interactions"])
    assert len(tables["interactions"]) == 4 and tables["media"] == []
    first = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert rows["u1", 1] == {"user_id": "u1", "item_id": 1, "timestamp": first, "behaviours": ["like"], "value": 5.0}
    assert {key: row["behaviours"] for key, row in rows.items()} == {
        ("u1", 1): ["like"], ("u1", 2): [], ("u2", 1): ["like"], ("u3", 3): [],
    }  # fmt: skip
    assert tables["items"] == [
        {"item_id": 1, "text_title": "One", "tags_genres": ["a", "b"], "number_year": 1999.0},
        {"item_id": 2, "text_title": "Two", "tags_genres": ["b"], "number_year": None},
        {"item_id": 3, "text_title": None, "tags_genres": [], "number_year": 2001.0},
    ]
    report = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert report["interactions"]["users_without_positive"] == 1
    assert report["interactions"]["behaviours"] == {"like": 2}
    assert any("1 user has no positive behaviour (of 3)" in line for line in report["warnings"])
    assert report["contracts"].keys() == {"interactions", "items", "media"}


def test_what_is_written_satisfies_the_contracts(root: Path, tmp_path: Path) -> None:
    run(generic(root), tmp_path)
    items = pq.read_table(tmp_path / "items.parquet")["item_id"].combine_chunks()
    known = {"items.item_id": items}
    assert [violations_of(tmp_path / f"{n}.parquet", n, known=known) for n in ("interactions", "items", "media")] == [
        [],
        [],
        [],
    ]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "tsv.gz", "parquet"])
def test_formats_give_the_same_tables(root: Path, tmp_path: Path, ending: str) -> None:
    plain = run(generic(root), tmp_path / "plain")
    for name, text in (("log", LOG), ("items", ITEMS)):
        if ending == "parquet":
            pd.read_csv(root / f"{name}.csv").to_parquet(root / f"{name}.parquet")
        else:
            write(root, f"{name}.{ending}", text.replace(",", "\t") if ending.startswith("tsv") else text)
    config = generic(root, log={"path": f"log.{ending}"}, items={"path": f"items.{ending}"})
    assert run(config, tmp_path / "other") == plain


def test_delimiter_encoding_header_and_quotes(root: Path, tmp_path: Path) -> None:
    lines = [line.split(",") for line in LOG.splitlines()[1:]]
    write(root, "log.dat", "\n".join("::".join(values) for values in lines))
    write(
        root,
        "items.txt",
        'id;title;genres;year\n1;"Caf\xe9; "" one""";a|b;1999\n2;Two\n lines;b;\n3;;;2001\n'.replace(
            "Two\n lines", '"Two\nlines"'
        ).encode("latin-1"),
    )
    config = generic(
        root,
        log={"path": "log.dat", "delimiter": "::", "column_names": ["user", "item", "rating", "time"]},
        items={"path": "items.txt", "delimiter": ";", "encoding": "latin-1"},
    )
    tables = run(config, tmp_path / "out")
    assert [row["text_title"] for row in tables["items"]] == ['Café; " one"', "Two\nlines", None]
    assert len(tables["interactions"]) == 4


def test_several_files_and_folders_of_parts(root: Path, tmp_path: Path) -> None:
    plain = run(generic(root), tmp_path / "plain")
    head, *rows = LOG.splitlines()
    write(root, "parts/a.csv", "\n".join([head, *rows[:1]]))
    write(root, "parts/b.csv.gz", "\n".join([head, *rows[1:]]))
    write(root, "parts/_SUCCESS", "")
    assert run(generic(root, log={"path": "parts"}), tmp_path / "folder") == plain
    config = generic(root, log={"path": None, "paths": ["parts/a.csv", "parts/b.csv.gz"]})
    assert run(config, tmp_path / "paths") == plain


def test_exact_duplicates_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG + "u1,1,5,1000000000\nu1,1,4,1000000000\n")
    tables = run(generic(root), tmp_path / "out")
    assert len(tables["interactions"]) == 5  # the other rating of the same second stays
    report = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert report["read"]["interactions"]["dropped"]["exact duplicate"] == 1
    assert report["read"]["interactions"]["rows_read"] == 6


def test_items_without_id_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    write(root, "items.csv", ITEMS + ",No id,,\n")
    assert len(run(generic(root), tmp_path / "out")["items"]) == 3
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["read"]["items"]["dropped"] == {"no id": 1}


def test_without_items_the_log_gives_them(root: Path, tmp_path: Path) -> None:
    assert run(generic(root, items=False), tmp_path / "out")["items"] == [
        {"item_id": 1},
        {"item_id": 2},
        {"item_id": 3},
    ]


def test_unknown_items(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG + "u4,99,5,1000000000\nu4,x9,5,1000000000\n")
    (found,) = violations(generic(root), tmp_path / "error")
    assert (found.column, found.rows, found.values) == ("item", (5, 6), ("'99'", "'x9'"))
    dropped = run(generic(root, unknown_items="drop"), tmp_path / "drop")
    assert len(dropped["interactions"]) == 4 and dropped["interactions"][0]["item_id"] in (1, 2, 3)
    report = json.loads((tmp_path / "drop" / "validation.json").read_text())
    assert report["read"]["interactions"]["dropped"]["unknown item"] == 2
    added = run(generic(root, unknown_items="add"), tmp_path / "add")
    assert [row["item_id"] for row in added["items"]] == ["1", "2", "3", "99", "x9"]
    assert added["items"][-1] == {"item_id": "x9", "text_title": None, "tags_genres": [], "number_year": None}


def test_items_that_all_are_unknown_mean_a_wrong_column(root: Path, tmp_path: Path) -> None:
    config = generic(root, items={"id": "title"}, unknown_items="drop")
    (found,) = violations(config, tmp_path / "out")
    assert "no event's item" in found.rule


def test_id_types(root: Path, tmp_path: Path) -> None:
    rows = run(generic(root, item_ids="string"), tmp_path / "string")
    assert (
        {row["item_id"] for row in rows["interactions"]} == {"1", "2", "3"} == {row["item_id"] for row in rows["items"]}
    )
    assert [v.column for v in violations(generic(root, user_ids="int64"), tmp_path / "int")] == ["user_id"]


def test_leading_zeros_survive(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG.replace("u1,1,", "u1,0012,"))
    write(
        root,
        "items.csv",
        ITEMS.replace("\n1,", "\n0012,").replace("\n3,", "\n1,One\n3,").replace("1,One\n3", "1,One,,\n3"),
    )
    ids = {row["item_id"] for row in run(generic(root), tmp_path / "out")["interactions"]}
    assert ids == {"0012", "1", "2", "3"}


def rule(**condition: Any) -> list[dict[str, Any]]:
    return [{"name": "like", "column": "rating"} | condition]


@pytest.mark.parametrize(
    ("behaviours", "positive"),
    [
        (rule(at_least=4), {5, 4}),
        (rule(at_most=1), {1}),
        (rule(equals=3), {3}),
        (rule(equals="3"), {3}),
        (rule(equals=True), {1}),
        (rule(one_of=["1", "5"]), {1, 5}),
        ([{"name": "like"}], {1, 3, 4, 5}),
    ],
)
def test_behaviour_rules(root: Path, tmp_path: Path, behaviours: list[dict[str, Any]], positive: set[int]) -> None:
    rows = run(generic(root, log={"behaviours": behaviours}), tmp_path / "out")["interactions"]
    assert {row["value"] for row in rows if row["behaviours"]} == positive


def test_kinds_of_event(root: Path, tmp_path: Path) -> None:
    write(
        root,
        "events.csv",
        "user,item,kind,time\nu,1,VIEW,1000000000\nu,1,LIKE,1000000000\nu,2,SHARE,1000000000\nu,3,,1000000000\n",
    )
    log: dict[str, Any] = {"path": "events.csv", "columns": {"user": "user", "item": "item", "timestamp": "time"},
                           "behaviours": [], "behaviour_column": "kind"}  # fmt: skip
    rows = run(generic(root, log=log), tmp_path / "plain")["interactions"]
    assert sorted(row["behaviours"] for row in rows) == [[], ["LIKE"], ["SHARE"], ["VIEW"]]
    mapped = log | {"behaviour_map": {"VIEW": None, "LIKE": "like", "SHARE": "share"}}
    rows = run(generic(root, log=mapped), tmp_path / "mapped")["interactions"]
    assert sorted(row["behaviours"] for row in rows) == [[], [], ["like"], ["share"]]
    (found,) = violations(
        generic(root, log=mapped | {"behaviour_map": {"VIEW": None, "LIKE": "like"}}), tmp_path / "lacking"
    )
    assert "behaviour_map lacks" in found.rule and found.values == ("'SHARE'",) and found.rows == (3,)


def test_merging_takes_the_last_time_and_all_behaviours(root: Path, tmp_path: Path) -> None:
    rows = ["u,1,view,1000000000,2", "u,1,like,1000000050,3", "u,1,save,1000000200,", "u,2,view,1000000010,1"]
    text = "\n".join(["user,item,kind,time,stay", *rows])
    write(root, "events.csv", text)
    columns = {"user": "user", "item": "item", "timestamp": "time", "dwell": "stay"}
    log = {
        "path": "events.csv",
        "columns": columns,
        "behaviours": [],
        "behaviour_column": "kind",
        "merge_within_seconds": 100,
    }
    rows = run(generic(root, log=log), tmp_path / "out")["interactions"]
    found = sorted(
        (row["item_id"], row["timestamp"].timestamp() - 1e9, tuple(row["behaviours"]), row["dwell_seconds"])
        for row in rows
    )
    assert found == [(1, 50.0, ("like", "view"), 5.0), (1, 200.0, ("save",), None), (2, 10.0, ("view",), 1.0)]


def test_optional_columns(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", "user,item,rating,time,page,place,stay,visit\nu,1,5,2001-09-09T01:46:40Z,p1,3,1500,s1\n")
    columns = {
        "user": "user",
        "item": "item",
        "timestamp": "time",
        "impression": "page",
        "position": "place",
        "dwell": "stay",
        "session": "visit",
    }
    config = generic(root, log={"columns": columns, "timestamp_unit": "iso", "dwell_unit": "ms"})
    (row,) = run(config, tmp_path / "out")["interactions"]
    assert (row["impression_id"], row["position"], row["dwell_seconds"], row["session_id"]) == ("p1", 3, 1.5, "s1")
    assert "value" not in row


def test_labels_from_the_items_file_and_from_another(root: Path, tmp_path: Path) -> None:
    write(root, "tags.tsv.gz", "movie\ttag\n1\tfun\n1\tdark\n1\tdark\n2\t fun \n77\tx\n")
    labels = {
        "genres": {"column": "genres", "separator": "|"},
        "user_tags": {"path": "tags.tsv.gz", "item": "movie", "column": "tag"},
    }
    rows = run(generic(root, items={"labels": labels, "tags": {}}), tmp_path / "out")["items"]
    assert [row["labels_user_tags"] for row in rows] == [["dark", "fun"], ["fun"], []]
    assert [row["labels_genres"] for row in rows] == [["a", "b"], ["b"], []]
    labels["user_tags"]["item"] = "tag"
    (found,) = violations(generic(root, items={"labels": labels}), tmp_path / "wrong")
    assert found.rule == "no label belongs to an item"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(root: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        f"u{rng.integers(4)},{rng.integers(1, 4)},{rng.integers(1, 6)},{1_000_000_000 + rng.integers(3)}"
        for _ in range(30)
    ]
    tables = []
    for turn in range(2):
        write(root, "log.csv", "\n".join(["user,item,rating,time", *(rows if turn else rng.permutation(rows))]))
        items = ITEMS.splitlines()
        write(root, "items.csv", "\n".join([items[0], *(items[1:] if turn else reversed(items[1:]))]))
        tables.append(run(generic(root, log={"behaviours": [*LIKE, {"name": "any"}]}), tmp_path / f"{turn}"))
    assert tables[0] == tables[1]


def test_equal_times_are_not_in_the_order_of_ids(root: Path, tmp_path: Path) -> None:
    write(
        root,
        "log.csv",
        "user,item,rating,time\n" + "".join(f"u,{n},5,1000000000\nv,{n},5,1000000000\n" for n in range(200)),
    )
    rows = run(generic(root, items=False), tmp_path / "out")["interactions"]
    orders = [np.array([row["item_id"] for row in rows if row["user_id"] == user]) for user in "uv"]
    for order in orders:
        assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.25
    assert (orders[0] != orders[1]).mean() > 0.9


def test_many_blocks_give_the_same_rows(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    columns = (
        rng.integers(99, size=3000),
        rng.integers(1, 4, 3000),
        rng.integers(1, 6, 3000),
        rng.integers(1e9, 1.5e9, 3000),
    )
    rows = "".join(f"u{u},{i},{r},{t}\n" for u, i, r, t in zip(*columns, strict=True))
    write(root, "log.csv", "user,item,rating,time\n" + rows)
    one = run(generic(root), tmp_path / "one")
    monkeypatch.setattr("recdistill.ingest.readers._BLOCK_BYTES", 4096)
    assert run(generic(root), tmp_path / "many") == one


def test_texts_too_large_for_plain_strings(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ({}, {"unknown_items": "add"}, {"items": False}, {"item_ids": "string"}):
        config = generic(root, **more)  # type: ignore[arg-type]
        plain = run(config, tmp_path / "plain")
        with monkeypatch.context() as patch:
            patch.setattr("recdistill.ingest.events._ROOMY_FROM", 0)
            assert run(config, tmp_path / "roomy") == plain
        assert pq.read_schema(tmp_path / "roomy" / "interactions.parquet").field("user_id").type == pa.large_string()


def test_parquet_types_are_taken_as_they_are(root: Path, tmp_path: Path) -> None:
    table = pa.table({
        "user": pa.array(["u", "v"]).dictionary_encode(),
        "item": pa.array([1.0, 2.0]),
        "rating": pa.array([5, 1], pa.int8()),
        "time": pa.array([datetime(2020, 1, 1), datetime(2020, 1, 2)], pa.timestamp("ns")),
    })  # fmt: skip
    pq.write_table(table, root / "log.parquet")
    rows = run(generic(root, log={"path": "log.parquet"}), tmp_path / "out")["interactions"]
    assert [(row["user_id"], row["item_id"], row["timestamp"].day) for row in rows] == [("u", 1, 1), ("v", 2, 2)]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"adapter": "generic"}, "needs it"),
        ({"adapter": "movielens", "items": {"path": "x", "id": "y"}}, "belongs to the generic"),
        ({"interactions": {"behaviours": []}}, "counts as positive"),
        ({"interactions": {"path": None}}, "either path or paths"),
        ({"interactions": {"behaviours": [{"name": "x", "column": "y"}]}}, "one of at_least"),
        ({"interactions": {"behaviours": [{"name": "x", "at_least": 1}]}}, "one of at_least"),
        ({"interactions": {"behaviour_map": {"a": "b"}}}, "needs behaviour_column"),
        ({"images": {"folder": "x", "bytes": "y"}}, "columns of Parquet"),
        ({"images": {"path": "x.parquet"}}, "need key and bytes"),
        ({"images": {}}, "either Parquet files"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(section: dict[str, Any], message: str) -> None:
    base = {"path": "log.csv", "columns": {"user": "u", "item": "i", "timestamp": "t"}, "behaviours": [{"name": "x"}]}
    whole: dict[str, Any] = {"adapter": "generic"} | section
    if "adapter" not in section:
        whole["interactions"] = base | section.get("interactions", {})
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(whole)
