"""Tables on disk and logs in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, atomic, read_metadata, read_table, write_table
from recdistill.contracts.validate import violations_of
from recdistill.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ids", [pd.Index(["b", "a", "c"]), pd.Index([3, 1, 2])])
def test_an_embedding_table_comes_back_as_it_was(tmp_path, ids):
    table = EmbeddingTable(
        ids,
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.array([1, 2, 3]),
        np.array([0.5, 0, 1], np.float32),
        {"geometry": "dot"},
    )
    table.write(tmp_path / "t.parquet")
    found = EmbeddingTable.read(tmp_path / "t.parquet")
    assert found.ids.tolist() == ids.tolist() and found.metadata == {"geometry": "dot"} == read_metadata(
        tmp_path / "t.parquet"
    )
    assert np.array_equal(found.vectors, table.vectors) and np.array_equal(found.support, table.support)
    vectors, present = found.align(
        pd.Index([ids[2], ids[0]]).append(pd.Index(["new"] if isinstance(ids[0], str) else [99]))
    )
    assert vectors.tolist() == [[4, 5], [0, 1], [0, 0]] and present.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"]}, "'embedding' is missing"),
        ({"item_id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "repeats"),
        ({"item_id": ["a", "b"], "embedding": [[1.0], [2.0, 3.0]]}, "several widths"),
        (
            {"item_id": ["a", "b"], "embedding": [[1.0], [float("nan")]]},
            r"NaN or infinite values in 1 of 2 rows, first item ids \['b'\]",
        ),
        ({"item_id": ["a"], "embedding": [1.0]}, "not a list"),
        ({"item_id": ["a", "b"], "embedding": [[1.0], None]}, "several widths"),
        ({"item_id": ["a", "b"], "embedding": [[1.0, 2.0], [None, 1.0]]}, "NaN"),
        ({"item_id": pa.array([], pa.string()), "embedding": pa.array([], pa.list_(pa.float32()))}, "no rows"),
    ],
)
def test_a_bad_embedding_table_is_refused(tmp_path, columns, message):
    write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=message):
        EmbeddingTable.read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("confidence", [0.5, None, 1.0], r"'confidence' has nulls or .* from 0 to 1 in 1 of 3 rows.*\['b'\]"),
        ("confidence", [0.5, float("nan"), float("inf")], r"in 2 of 3 rows, first item ids \['b', 'c'\]"),
        ("confidence", [-0.1, 0.5, 1.5], r"in 2 of 3 rows, first item ids \['a', 'c'\]"),
        ("confidence", [None, None, None], "in 3 of 3 rows"),
        ("confidence", ["high", "low", "low"], "'confidence' is string, not a number"),
        ("support", [3, None, 4], r"'support' has nulls or .* whole number, 0 or more in 1 of 3 rows.*\['b'\]"),
        ("support", [3, -1, 4], r"in 1 of 3 rows, first item ids \['b'\]"),
        ("support", [3.0, 2.5, 4.0], r"in 1 of 3 rows, first item ids \['b'\]"),
    ],
)
def test_support_and_confidence_out_of_their_range_are_refused(tmp_path, column, values, message):
    columns = {"item_id": ["a", "b", "c"], "embedding": [[1.0], [2.0], [3.0]], column: values}
    write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=rf"t\.parquet: .*{message}") as caught:
        EmbeddingTable.read(tmp_path / "t.parquet")
    assert caught.value.remedy


def test_support_and_confidence_of_any_number_type_are_read(tmp_path):
    columns = {"item_id": ["a", "b"], "embedding": [[1.0], [2.0]], "support": [3.0, 0.0], "confidence": [0, 1]}
    write_table(pa.table(columns), tmp_path / "t.parquet")
    table = EmbeddingTable.read(tmp_path / "t.parquet")
    assert table.support is not None and table.support.dtype == np.int64 and table.support.tolist() == [3, 0]
    assert table.confidence is not None and table.confidence.dtype == np.float32
    assert table.confidence.tolist() == [0, 1]


def test_fixed_size_lists_with_a_missing_row_are_refused(tmp_path):
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    write_table(pa.table({"item_id": ["a", "b"], "embedding": column}), tmp_path / "t.parquet")
    with pytest.raises(UserError):
        EmbeddingTable.read(tmp_path / "t.parquet")


def write_events(path, rows):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "behaviours"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s", utc=True)
    write_table(frame, path)


def test_a_log_is_sorted_and_keeps_the_files_order_on_ties(tmp_path):
    write_events(
        tmp_path / "a.parquet", [("u2", "x", 5, ["like"]), ("u1", "y", 9, []), ("u1", "z", 3, ["like", "share"])]
    )
    write_events(tmp_path / "b.parquet", [("u2", "w", 5, ["share"]), ("u2", "y", 1, ["like"])])
    log = Log.read([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    rows = list(
        zip(
            log.user_ids.take(log.user), log.item_ids.take(log.item), log.time // 1_000_000, log.behaviours, strict=True
        )
    )
    assert rows == [("u1", "z", 3, 3), ("u1", "y", 9, 0), ("u2", "y", 1, 1), ("u2", "x", 5, 1), ("u2", "w", 5, 2)]
    assert log.behaviour_names == ("like", "share") and log.starts.tolist() == [0, 2, 5]
    assert log.positive().tolist() == [True, False, True, True, True] and log.positive(2).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_log_of_unknown_items_is_refused(tmp_path):
    write_events(tmp_path / "a.parquet", [("u", "x", 5, ["like"])])
    with pytest.raises(UserError, match=r"1 item ids .* e.g. \['x'\]"):
        Log.read([tmp_path / "a.parquet"], item_ids=pd.Index(["y"]))


@pytest.mark.parametrize("ids", [pd.Index(["u2", "u1"]), pd.Index([2, 1])])
def test_a_table_of_users_satisfies_its_contract_and_comes_back(tmp_path, ids):
    metadata = {"geometry": "dot", "kind": "sequence_teacher", "item_table": "sequence_teacher"}
    vectors = np.array([[1, 2], [3, 4]], dtype=np.float32)
    path = tmp_path / "users.parquet"
    EmbeddingTable(ids, vectors, np.array([3, 0]), None, metadata, "user_id").write(path)
    assert violations_of(path, "user_embeddings") == []
    assert pq.read_schema(path).field("embedding").type == pa.list_(pa.float32(), 2)
    found = EmbeddingTable.read(path, id_column="user_id")
    assert found.ids.tolist() == ids.tolist() and np.array_equal(found.vectors, vectors)
    assert found.support is not None and found.support.tolist() == [3, 0]
    assert (found.metadata, found.id_column) == (metadata, "user_id")
    with pytest.raises(UserError, match="column 'item_id' is missing"):
        EmbeddingTable.read(path)


def test_a_bad_table_of_users_is_refused_in_words_of_users(tmp_path):
    metadata = {"geometry": "dot", "kind": "id_teacher", "item_table": "id_teacher"}
    path = tmp_path / "users.parquet"

    def refused(columns, metadata=metadata):
        write_table(pa.table(columns), path, metadata=metadata)
        with pytest.raises(UserError) as caught:
            EmbeddingTable.read(path, id_column="user_id")
        return f"{caught.value.message} | {caught.value.remedy}"

    good = {"user_id": ["u", "v"], "embedding": [[1.0], [2.0]], "support": [1, 2]}
    assert "metadata lack kind, item_table" in refused(good, {"geometry": "dot"})
    assert "'support' is missing" in refused({name: good[name] for name in ("user_id", "embedding")})
    assert "'user_id' is missing" in refused({"item_id": ["a"], "embedding": [[1.0]], "support": [1]})
    assert "'user_id' has nulls or repeats" in refused(good | {"user_id": ["u", "u"]})
    said = refused(good | {"embedding": [[1.0], [float("nan")]]})
    assert "first user ids ['v']" in said and "a user without a vector is simply absent" in said
    assert "first user ids ['u']" in refused(good | {"support": [-1, 2]})
    assert ("support", "below 0") in {(v.column, v.rule) for v in violations_of(path, "user_embeddings")}


@pytest.mark.parametrize("support", [None, np.array([1])])
def test_a_table_of_users_must_say_what_it_compares_with(support):
    with pytest.raises(ValueError, match="item_table"):
        EmbeddingTable(
            pd.Index(["u"]),
            np.ones((1, 2), np.float32),
            support,
            None,
            {"geometry": "dot", "kind": "id_teacher"} if support is not None else {},
            "user_id",
        )


@pytest.mark.parametrize("ids", [["u1", "u2", "u3"], [1, 2, 3]], ids=["string", "int64"])
def test_only_some_users_rows_are_read(ids: list[Any], tmp_path: Path) -> None:
    times = pa.array([1, 2, 3, 4, 5], pa.timestamp("us", "UTC"))
    user = [ids[0], ids[0], ids[1], ids[2], ids[2]]
    behaviours = pa.array([["like"], [], ["like"], ["like"], []], pa.list_(pa.string()))
    events = {"user_id": user, "item_id": list("abcab"), "timestamp": times, "behaviours": behaviours}
    write_table(pa.table(events), tmp_path / "t.parquet")
    wanted = pd.Index([ids[2], ids[0]])
    assert read_table(tmp_path / "t.parquet", columns=["item_id"], only=("user_id", wanted))["item_id"].to_pylist() == [
        "a", "b", "a", "b",
    ]  # fmt: skip
    catalogue = pd.Index(list("abc"))
    log = Log.read([tmp_path / "t.parquet"], item_ids=catalogue, only_users=wanted)
    whole = Log.read([tmp_path / "t.parquet"], item_ids=catalogue)
    assert log.user_ids.tolist() == [ids[0], ids[2]]
    kept = np.isin(whole.user_ids[whole.user], wanted)
    assert log.item.tolist() == whole.item[kept].tolist() and log.time.tolist() == whole.time[kept].tolist()


def test_dictionary_encoded_ids_number_as_plain_ones_do(tmp_path):
    for name, kind in (("plain", object), ("encoded", "category")):
        frame = pd.DataFrame({"user_id": ["v", "u", "v"], "item_id": ["y", "x", "x"], "behaviours": [["like"]] * 3})
        frame = frame.astype({"user_id": kind, "item_id": kind})
        frame["timestamp"] = pd.to_datetime([3, 2, 1], unit="s", utc=True)
        write_table(frame, tmp_path / f"{name}.parquet")
    plain, encoded = (Log.read([tmp_path / f"{name}.parquet"]) for name in ("plain", "encoded"))
    assert encoded.user_ids.tolist() == plain.user_ids.tolist() == ["u", "v"]
    assert encoded.user.tolist() == plain.user.tolist() == [0, 1, 1]
    assert encoded.item.tolist() == plain.item.tolist() == [0, 0, 1]
