"""Match features and reactions of Parquet tables: one machine equals the module on padded rows, Spark one machine."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_metadata, write_table
from recdistill.contracts.validate import violations_of
from recdistill.errors import UserError
from recdistill.features.config import MatchConfig, ReactionConfig
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import MatchItems
from recdistill.features.match_spark import match_spark
from recdistill.features.match_table import EVENT, match_rows, write_match_features
from recdistill.features.semantic_ids import to_table
from recdistill.features.space import Space

CONFIG = MatchConfig(last=6, top_k=2, half_life_days=2.0, interests=5, min_behaviours=2)
REACTION = ReactionConfig(last=9, temperatures=(0.1, 0.3))
LABELS = np.array(["click", "finish", "like"])
DAY = 86_400_000_000


def _items(id_kind: str = "string", *, count: int = 80) -> MatchItems:
    """Vectors with a large common direction, that centring must take off in every path."""
    rng = np.random.default_rng(0)
    ids = pd.Index(_ids("i", np.arange(count), id_kind))
    vectors = (rng.normal(size=(count, 12)) + 3).astype(np.float32)
    table = EmbeddingTable(ids, vectors)
    basis = MatchBasis.fit(Space.of(table, ids, centre=True), CONFIG, seed=0, reaction=REACTION)
    coded = to_table(ids[3:], rng.integers(4, size=(count - 3, 3)))  # three items have no semantic ID
    return MatchItems.of(basis, table, coded)


def _ids(kind: str, numbers: np.ndarray, id_kind: str) -> Any:
    return [f"{kind}{one:04d}" for one in numbers] if id_kind == "string" else numbers.astype(id_kind)


def _log(seed: int, *, rows: int, id_kind: str = "string", users: int = 25, days: int = 20) -> pa.Table:
    """Events in no order, with equal times, and items that have no vector."""
    rng = np.random.default_rng(seed)
    time = 1_700_000_000_000_000 + rng.integers(days * 4, size=rows) * (DAY // 4)
    has = rng.random((rows, len(LABELS))) < 0.6
    return pa.table(
        {
            names.USER_ID: pa.array(_ids("u", rng.integers(users, size=rows), id_kind)),
            names.ITEM_ID: pa.array(_ids("i", rng.integers(90, size=rows), id_kind)),
            names.TIMESTAMP: pa.array(time, pa.timestamp("us", "UTC")),
            names.BEHAVIOURS: pa.array([LABELS[row].tolist() for row in has], pa.list_(pa.string())),
        }
    )


def _sorted(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    return frame.sort_values([*EVENT, *frame.columns[3:]]).reset_index(drop=True)


def _files(folder: Path, *, id_kind: str = "string") -> tuple[list[Path], list[Path]]:
    """Events and history; the second history file has large strings, and another row group every fifty rows."""
    first, second, asked = (
        _log(1, rows=300, id_kind=id_kind),
        _log(2, rows=500, id_kind=id_kind),
        _log(3, rows=400, id_kind=id_kind),
    )
    paths = [folder / f"{name}.parquet" for name in ("first", "second", "asked")]
    write_table(first, paths[0])
    large = second if id_kind != "string" else second.set_column(0, names.USER_ID, second[0].cast(pa.large_string()))
    pq.write_table(large, paths[1], row_group_size=50)
    write_table(asked.select(EVENT), paths[2])
    return paths[2:], paths[:2]


@pytest.mark.parametrize("id_kind", ["string", "int64"])
def test_files_in_any_chunks_equal_the_module_event_by_event(tmp_path: Path, id_kind: str) -> None:
    items = _items(id_kind)
    events, history = _files(tmp_path, id_kind=id_kind)
    out = tmp_path / "out.parquet"
    assert write_match_features(events, history, items, out=out, metadata={"kind": "student"}, chunk_events=100) == 400
    assert violations_of(out, "match_features") == []
    assert read_metadata(out)["half_life_days"] == 2.0 and read_metadata(out)["kind"] == "student"
    assert read_metadata(out)["reaction"] == {"last": 9, "temperatures": [0.1, 0.3]}
    chunked = pq.read_table(out)
    write_match_features(events, history, items, out=out)
    np.testing.assert_allclose(
        _sorted(chunked)[list(items.columns)],
        _sorted(pq.read_table(out))[list(items.columns)],
        rtol=0,
        atol=1e-7,
    )
    past = pd.concat([pq.read_table(path).to_pandas() for path in history])
    past["pleased"] = past[names.BEHAVIOURS].map(len) >= 2
    past["row"] = items.ids.get_indexer(past[names.ITEM_ID])  # -1: not among them
    seen = 0
    for event in _sorted(chunked).to_dict("records"):
        mine = past[past[names.USER_ID] == event[names.USER_ID]].sort_values([names.TIMESTAMP, "row", "pleased"])
        age = (event[names.TIMESTAMP] - mine[names.TIMESTAMP]).to_numpy() / np.timedelta64(1, "D")
        row = items.ids.get_indexer([event[names.ITEM_ID]])
        parts = (np.asarray(part) for part in (mine["row"], age, mine["pleased"], row))
        expected = items.served(*(torch.tensor(part)[None] for part in parts))[0, 0]
        np.testing.assert_allclose([event[name] for name in items.columns], expected, rtol=0, atol=1e-7)
        seen += event["match_items"] == CONFIG.last
    assert seen > 100  # histories that were cut


def test_an_events_table_may_be_its_own_history_and_may_be_empty(tmp_path: Path) -> None:
    items, log = _items(), _log(5, rows=200)
    write_table(log, tmp_path / "log.parquet")
    write_table(log.slice(0, 0), tmp_path / "none.parquet")
    both = [tmp_path / "log.parquet"]
    assert write_match_features(both, both, items, out=tmp_path / "out.parquet") == 200
    found = _sorted(pq.read_table(tmp_path / "out.parquet"))
    first = found.groupby(names.USER_ID)[names.TIMESTAMP].transform("min") == found[names.TIMESTAMP]
    assert (found.match_items[first] == 0).all() and found.match_items.max() == CONFIG.last
    for events, history, rows in ((["none"], ["log"], 0), (["log"], ["none"], 200), (["none"], ["none"], 0)):
        of = [[tmp_path / f"{name}.parquet" for name in side] for side in (events, history)]
        assert write_match_features(*of, items, out=tmp_path / "out.parquet") == rows
        assert pq.read_table(tmp_path / "out.parquet")["match_items"].to_pylist() == [0] * rows


def test_what_cannot_be_right_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    events, history = _files(tmp_path)
    out, numbers = tmp_path / "out.parquet", tmp_path / "numbers.parquet"
    with pytest.raises(
        UserError, match=r"(?s)no column behaviours.*remedy: the table needs user_id, item_id, timestamp, beh"
    ):
        write_match_features(events, events, _items(), out=out)
    with pytest.raises(
        UserError, match=r"(?s)no such table.*remedy: name Parquet files .*with user_id, item_id, timestamp,"
    ):
        write_match_features([tmp_path / "absent.parquet"], history, _items(), out=out)
    with pytest.raises(UserError, match="item_id is string, but int64"):
        write_match_features(events, history, _items("int64"), out=out)
    log = _log(1, rows=5)
    write_table(log.set_column(0, names.USER_ID, pa.array(range(5))), numbers)
    with pytest.raises(UserError, match=r"user_id is a number in one table and text in another: .*numbers.parquet"):
        write_match_features([numbers], history, _items(), out=out)
    basis = MatchBasis(np.zeros(5, dtype=np.float32), np.zeros((1, 5), dtype=np.float32), CONFIG)
    with pytest.raises(UserError, match="12 wide, the match features' basis 5"):
        MatchItems.of(basis, EmbeddingTable(pd.Index([1]), np.ones((1, 12), dtype=np.float32)))
    assert not out.exists()


@pytest.mark.parametrize(
    ("events", "history", "said"),
    [
        ({}, {names.ITEM_ID: "int64"}, "history: item_id is int64, but"),
        ({names.ITEM_ID: "int64"}, {}, "events: item_id is int64, but"),
        ({names.USER_ID: "int64"}, {}, "user_id is a number in one table and text in another: events, history"),
    ],
)
def test_ids_of_another_kind_are_refused_in_memory_too(
    events: dict[str, str], history: dict[str, str], said: str
) -> None:
    """They would be nobody's: all columns would be NaN, or 0."""
    log = _log(1, rows=30)

    def numbered(of: dict[str, str]) -> pa.Table:
        frame = log.to_pandas()
        return pa.table(frame.assign(**{name: frame[name].str[1:].astype(kind) for name, kind in of.items()}))

    with pytest.raises(UserError, match=said):
        match_rows(numbered(events), numbered(history), _items())
    with pytest.raises(UserError, match=r"events: item_id is .*string, but int64 in the embeddings"):
        match_rows(log, log, _items("int64"))


def test_folders_of_part_files_are_their_parts(tmp_path: Path) -> None:
    items = _items()
    events, history = _files(tmp_path)
    plain, parted = tmp_path / "plain.parquet", tmp_path / "parted.parquet"
    write_match_features(events, history, items, out=plain, chunk_events=100)
    (tmp_path / "history" / "2024").mkdir(parents=True)
    (tmp_path / "events").mkdir()
    history[0].rename(tmp_path / "history" / "part-0.parquet")
    history[1].rename(tmp_path / "history" / "2024" / "part-0.parquet")
    asked = pq.read_table(events[0])
    for at in range(3):  # the last has no rows
        write_table(asked.slice(200 * at, 200), tmp_path / "events" / f"part-{at}.parquet")
    (tmp_path / "events" / "_SUCCESS").touch()
    (tmp_path / "events" / ".part-0.parquet.crc").write_text("not for us")
    folders = [tmp_path / "events"], [tmp_path / "history"]
    assert write_match_features(*folders, items, out=parted, chunk_events=100) == 400
    pd.testing.assert_frame_equal(_sorted(pq.read_table(plain)), _sorted(pq.read_table(parted)))


def test_what_is_no_table_is_refused_with_its_name(tmp_path: Path) -> None:
    events, history = _files(tmp_path)
    out, text, folder = tmp_path / "out.parquet", tmp_path / "text.parquet", tmp_path / "folder"
    text.write_text("user_id,item_id,timestamp\n")
    folder.mkdir()
    for of, said in (
        ([[text], history], r"text.parquet: not a readable Parquet table \("),
        ([events, [folder]], "folder: a folder without files"),
        ([[], history], "events: no table is named"),
        ([events, []], "history: no table is named"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            write_match_features(*of, _items(), out=out)
        assert "name Parquet files (or folders of them) with user_id" in caught.value.remedy
    text.rename(folder / "part-0.parquet")
    with pytest.raises(UserError, match="folder: not a folder of Parquet files"):
        write_match_features(events, [folder], _items(), out=out)
    assert not out.exists()


@pytest.mark.parametrize("holed", [None, ["like", None]])
def test_behaviours_that_nobody_knows_are_not_taken_as_displeasure(
    tmp_path: Path, holed: list[str | None] | None
) -> None:
    items, log = _items(), _log(1, rows=30)
    behaviours = pa.array([*log[names.BEHAVIOURS].to_pylist()[1:], holed], pa.list_(pa.string()))
    wrong = log.set_column(3, names.BEHAVIOURS, behaviours)
    with pytest.raises(UserError, match="history: nulls in 30 rows: 1 behaviours") as caught:
        match_rows(log, wrong, items)
    assert "an empty list of behaviours where nothing" in caught.value.remedy
    write_table(wrong, tmp_path / "wrong.parquet")
    both = [tmp_path / "wrong.parquet"]
    with pytest.raises(UserError, match=r"wrong.parquet: nulls in .* rows: 1 behaviours"):
        write_match_features(both, both, items, out=tmp_path / "out.parquet", chunk_events=10)
    assert match_rows(wrong.select(EVENT), log, items).num_rows == 30  # events need none


@pytest.mark.parametrize("column", EVENT)
def test_nulls_are_refused_in_any_chunks_and_none_is_lost(tmp_path: Path, column: str) -> None:
    """Of integers too: among nulls, pandas would read them as floats, and ids above 2^53 as each other."""
    items, out = _items("int64"), tmp_path / "out.parquet"
    log = _log(1, rows=300, id_kind="int64")
    holed = log.set_column(
        log.column_names.index(column), column, pa.array([None, *log[column].to_pylist()[1:]], log[column].type)
    )
    write_table(log, tmp_path / "log.parquet")
    write_table(holed, tmp_path / "holed.parquet")
    whole, broken = [tmp_path / "log.parquet"], [tmp_path / "holed.parquet"]
    for chunk_events in (50, 1_000_000):
        for events, history in ((broken, whole), (whole, broken)):
            with pytest.raises(UserError, match=rf"holed.parquet: .*{column}.*") as caught:
                write_match_features(events, history, items, out=out, chunk_events=chunk_events)
            assert "null" in caught.value.message and "drop those rows" in caught.value.remedy
            assert not out.exists()
    for events, history, what in ((holed, log, "events"), (log, holed, "history")):
        with pytest.raises(UserError, match=rf"{what}: nulls in 300 rows: 1 {column}"):
            match_rows(events, history, items)


def test_large_ids_have_their_own_history(tmp_path: Path) -> None:
    items = _items()
    log = _log(1, rows=300)
    number = {user: 2**53 + at for at, user in enumerate(sorted(set(log[names.USER_ID].to_pylist())))}
    large = pa.array([number[user] for user in log[names.USER_ID].to_pylist()])
    paths = [tmp_path / "text.parquet", tmp_path / "large.parquet"]
    write_table(log, paths[0])
    write_table(log.set_column(0, names.USER_ID, large), paths[1])
    found = []
    for path in paths:
        write_match_features([path], [path], items, out=tmp_path / "out.parquet", chunk_events=60)
        found.append(_sorted(pq.read_table(tmp_path / "out.parquet")))
    assert found[1][names.USER_ID].tolist() == [number[user] for user in found[0][names.USER_ID]]
    pd.testing.assert_frame_equal(found[0].drop(columns=names.USER_ID), found[1].drop(columns=names.USER_ID))


@pytest.mark.parametrize(
    ("form", "of_ids"),
    [
        (lambda frame: frame.astype({names.USER_ID: "category", names.ITEM_ID: "category"}), "string"),
        (lambda frame: frame.assign(timestamp=frame.timestamp.dt.as_unit("ns") + pd.Timedelta(1, "ns")), "string"),
        (lambda frame: frame.assign(timestamp=frame.timestamp.dt.tz_convert("Asia/Tokyo")), "string"),
        (lambda frame: frame.assign(timestamp=frame.timestamp.dt.tz_localize(None)), "string"),
        (lambda frame: frame.assign(timestamp=frame.timestamp.dt.as_unit("s")), "int64"),
        (lambda frame: frame.astype({names.USER_ID: "int32", names.ITEM_ID: "uint16"}), "int64"),
    ],
    ids=["categories", "nanoseconds", "zone", "no zone", "seconds", "narrow"],
)
def test_what_pandas_writes_is_read_as_it_is_meant(tmp_path: Path, form: Callable[..., Any], of_ids: str) -> None:
    items = _items(of_ids)
    events, history = _files(tmp_path, id_kind=of_ids)
    write_match_features(events, history, items, out=tmp_path / "plain.parquet", chunk_events=100)
    own = []
    for path in (*events, *history):
        table = form(pq.read_table(path).to_pandas())
        own.append(tmp_path / f"own_{path.name}")
        table.to_parquet(own[-1])
    write_match_features(own[:1], own[1:], items, out=tmp_path / "own.parquet", chunk_events=100)
    assert violations_of(tmp_path / "own.parquet", "match_features") == []
    plain, found = (_sorted(pq.read_table(tmp_path / f"{name}.parquet")) for name in ("plain", "own"))
    pd.testing.assert_frame_equal(plain, found)
    assert plain.match_items.max() == CONFIG.last


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (names.TIMESTAMP, pa.array([1_700_000_000] * 5), "column 'timestamp' is int64, not a timestamp"),
        (names.TIMESTAMP, pa.array(["2024-01-01"] * 5), "column 'timestamp' is string, not a timestamp"),
        (names.USER_ID, pa.array([1.0] * 5), "column 'user_id' is double, not an integer or text"),
        (names.BEHAVIOURS, pa.array(["like"] * 5), "column 'behaviours' is string, not a list of labels"),
        (names.USER_ID, pa.array([2**63] * 5, pa.uint64()), "9223372036854775808"),
    ],
)
def test_types_that_would_be_read_otherwise_are_refused(
    tmp_path: Path, column: str, values: pa.Array, said: str
) -> None:
    log = _log(1, rows=5)
    if column == names.USER_ID:
        log = log.set_column(0, column, pa.array(range(5)))
    wrong = log.set_column(log.column_names.index(column), column, values)
    write_table(log, tmp_path / "log.parquet")
    write_table(wrong, tmp_path / "wrong.parquet")
    with pytest.raises(UserError, match=rf"wrong.parquet: .*{said}") as caught:
        write_match_features(
            [tmp_path / "log.parquet"], [tmp_path / "wrong.parquet"], _items(), out=tmp_path / "out.parquet"
        )
    assert caught.value.remedy
    with pytest.raises(UserError, match=rf"history: .*{said}"):
        match_rows(log, wrong, _items())
    assert not (tmp_path / "out.parquet").exists()


def test_events_that_the_vectors_may_have_learned_from_are_warned_of(tmp_path: Path) -> None:
    events, history = _files(tmp_path)
    time = pq.read_table(events[0])[names.TIMESTAMP].to_pandas()
    until = time.sort_values(ignore_index=True)[150]
    items = replace(_items(), trained_until=until.to_pydatetime())
    with pytest.warns(UserWarning, match="no later") as caught:
        write_match_features(events, history, items, out=tmp_path / "out.parquet", chunk_events=100)
    (said,) = (str(warning.message) for warning in caught)
    assert f"up to {until.isoformat()}, and {(time <= until).sum()} of 400 rows are no later" in said
    before = replace(items, trained_until=time.min().to_pydatetime() - timedelta(microseconds=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_match_features(events, history, before, out=tmp_path / "out.parquet", chunk_events=100)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not here: pip install 'recdistill[spark]'")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none on the path")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        # Another zone than ours: a time is an instant, however a session shows it.
        builder = builder.config("spark.sql.session.timeZone", "Asia/Tokyo").config(
            "spark.driver.bindAddress", "127.0.0.1"
        )
        session = builder.config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("spark"))).getOrCreate()
        session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        yield session
        session.stop()


@pytest.mark.parametrize("id_kind", ["string", "int32"])
def test_spark_gives_what_one_machine_gives(spark: Any, tmp_path: Path, id_kind: str) -> None:
    items = _items(id_kind)
    events, history = _files(tmp_path, id_kind=id_kind)
    out = tmp_path / "spark"
    past = spark.read.parquet(str(history[0])).unionByName(spark.read.parquet(str(history[1])))
    match_spark(spark.read.parquet(str(events[0])), past, items, groups=4).write.parquet(str(out))
    write_match_features(events, history, items, out=tmp_path / "here.parquet")
    assert all(violations_of(part, "match_features") == [] for part in out.glob("part-*.parquet"))
    of_spark, here = pq.read_table(out), pq.read_table(tmp_path / "here.parquet")
    assert of_spark.column_names == here.column_names
    found, expected = _sorted(of_spark), _sorted(here)
    for name in EVENT:
        assert found[name].tolist() == expected[name].tolist()
    columns = list(items.columns)
    np.testing.assert_allclose(found[columns], expected[columns], rtol=0, atol=1e-6)
    assert (expected.match_items == CONFIG.last).sum() > 100
