"""Files that cannot be read are explained: file, row or byte, remedy; and row numbers are the file's own."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_helpers import ITEMS, LOG, generic, run, violations, write

from recdistill.contracts.violations import Violations
from recdistill.ingest import ingest
from recdistill.ingest.config import TableFile
from recdistill.ingest.readers import Source, blocks, read_whole, sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, "log.csv", LOG)
    write(folder, "items.csv", ITEMS)
    return folder


def source(path: Path, **form: object) -> Source:
    return Source(path, path.name, TableFile.model_validate({"path": path, **form}))


@pytest.mark.parametrize("cut", [0.0, 0.02, 0.5, 0.999])
def test_truncated_gzip_tells_where_it_breaks(root: Path, tmp_path: Path, cut: float) -> None:
    lines = [f"u{n},{n % 3 + 1},5,{1_000_000_000 + n * 7919 % 99991}\n" for n in range(20_000)]
    data = gzip.compress(("user,item,rating,time\n" + "".join(lines)).encode())
    path = root / "log.csv.gz"
    path.write_bytes(data[: int(len(data) * cut)])
    (found,) = violations(generic(root, log={"path": path.name}), tmp_path / "out")
    assert found.file == "log.csv.gz"
    if cut == 0:
        assert found.rule == "empty file"
    else:
        assert (
            found.rule.startswith("truncated or corrupt gzip file: it breaks after line") and "gzip -t" in found.remedy
        )
        line = int(found.rule.split("line ")[1].split(" ")[0].replace(",", ""))
        assert abs(line - 20_000 * cut) < 6_000


def test_not_gzip_at_all(root: Path, tmp_path: Path) -> None:
    (root / "log.csv.gz").write_text(LOG)
    (found,) = violations(generic(root, log={"path": "log.csv.gz"}), tmp_path / "out")
    assert "not a gzip file" in found.rule


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("row", [1, 2, 30_000])
def test_text_that_is_not_utf8_names_byte_and_line(root: Path, tmp_path: Path, row: int, packed: str) -> None:
    lines = [f"{n},Title {n},a,2000\n".encode() for n in range(1, 40_001)]
    lines[row - 1] = f"{row},Caf\xe9,a,2000\n".encode("latin-1")
    data = b"id,title,genres,year\n" + b"".join(lines)
    (root / f"items.csv{packed}").write_bytes(gzip.compress(data) if packed else data)
    (found,) = violations(generic(root, items={"path": f"items.csv{packed}"}), tmp_path / "out")
    assert found.rule == f"not utf-8 text: byte 0xe9 at byte {data.index(0xE9):,} (line {row + 1:,})"
    assert "Caf" in found.values[0] and "latin-1" in found.remedy


def test_utf16_is_recognised(root: Path, tmp_path: Path) -> None:
    (root / "log.csv").write_bytes(LOG.encode("utf-16"))
    (found,) = violations(generic(root), tmp_path / "out")
    assert "set encoding: utf-16" in found.remedy


def test_unknown_encoding(root: Path, tmp_path: Path) -> None:
    (found,) = violations(generic(root, log={"encoding": "utf-99"}), tmp_path / "out")
    assert "unknown encoding 'utf-99'" in found.rule


def test_empty_and_header_only_files(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", "")
    (found,) = violations(generic(root), tmp_path / "empty")
    assert (found.file, found.rule) == ("log.csv", "empty file")
    write(root, "log.csv", LOG.splitlines()[0] + "\n")
    (found,) = violations(generic(root), tmp_path / "header")
    assert found.rule.startswith("no rows") and found.file == "log.csv"
    (root / "log.parquet").write_bytes(b"")
    (found,) = violations(generic(root, log={"path": "log.parquet"}), tmp_path / "parquet")
    assert found.rule == "empty file"


def test_wrong_delimiter_is_recognised(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG.replace(",", ";"))
    found = violations(generic(root), tmp_path / "out")
    assert {v.column for v in found} == {"user", "item", "rating", "time"}
    assert all("delimited by ';'" in v.remedy for v in found)


def test_missing_columns_of_all_files_are_told_at_once(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG.replace("rating", "ratings").replace("time", "when"))
    write(root, "items.csv", ITEMS.replace("year", "Year"))
    found = violations(generic(root), tmp_path / "out")
    assert {(v.file, v.column) for v in found} == {("log.csv", "rating"), ("log.csv", "time"), ("items.csv", "year")}
    remedies = {v.column: v.remedy for v in found}
    assert remedies["rating"].startswith("did you mean 'ratings'?") and "found: user, item" in remedies["time"]


def test_missing_files_of_all_kinds_are_told_at_once(root: Path, tmp_path: Path) -> None:
    labels = {"x": {"path": "gone.csv", "item": "a", "column": "b"}}
    config = generic(root, log={"path": "lag.csv"}, items={"labels": labels}, images={"folder": "nowhere"})
    found = violations(config, tmp_path / "out")
    assert [v.file for v in found] == ["gone.csv", "lag.csv"] and "did you mean 'log.csv'?" in found[1].remedy


def test_bad_values_name_row_and_value(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", LOG + "u4,1,five,1000000000\nu4,,5,1000000000\n,1,5,soon\nu4,1,5,0\nu4,1,5,99999999999\n")
    write(root, "items.csv", ITEMS + "1,Again,,\n4,,,MM\n")
    found = {(v.file, v.column, v.rule.split(" (")[0]): v for v in violations(generic(root), tmp_path / "out")}
    rows = {key: (v.rows, v.values) for key, v in found.items()}
    assert rows == {
        ("log.csv", "rating", "not a number"): ((5,), ("'five'",)),
        ("log.csv", "item", "null"): ((6,), ("None",)),
        ("log.csv", "time", "not a time in s"): ((7,), ("'soon'",)),
        ("log.csv", "time", "before 1980-01-01T00:00:00Z"): ((8,), ("'1970-01-01T00:00:00+00:00'",)),
        ("log.csv", "time", "in the future"): ((9,), ("'5138-11-16T09:46:39+00:00'",)),
        ("items.csv", "id", "duplicate key"): ((4,), ("1",)),
        ("items.csv", "year", "not a number"): ((5,), ("'MM'",)),
    }


def test_milliseconds_taken_for_seconds(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", "user,item,rating,time\nu,1,5,1573808122000\n")
    (found,) = violations(generic(root), tmp_path / "out")
    assert found.rule == "in the future" and "unit" in found.remedy


def test_ragged_rows(root: Path, tmp_path: Path) -> None:
    head, *rows = LOG.splitlines()
    write(root, "log.csv", "\n".join([head, rows[0], "u9,1", rows[1], "u9,1,5,1000000000,7,8", "u5,1,x,1000000000"]))
    found = {v.rule.split(" (")[0]: v for v in violations(generic(root), tmp_path / "out")}
    assert found["wrong number of values"].rows == (2, 4) and found["wrong number of values"].values[0] == "'u9,1'"
    assert found["not a number"].rows == (5,)  # counted with the rows that were lost


def test_an_unbalanced_quote_is_not_swallowed(root: Path, tmp_path: Path) -> None:
    head, *rows = LOG.splitlines()
    write(root, "log.csv", "\n".join([head, 'u1,"2,5,1000000000', *rows]))
    found = violations(generic(root), tmp_path / "out")
    assert found and any("quote" in v.remedy for v in found)


def test_no_positive_at_all(root: Path, tmp_path: Path) -> None:
    log = {"behaviours": [{"name": "like", "column": "rating", "at_least": 9}]}
    (found,) = violations(generic(root, log=log), tmp_path / "out")
    assert found.rule == "no event has a positive behaviour" and "thresholds" in found.remedy


def test_too_many_behaviours(root: Path, tmp_path: Path) -> None:
    write(root, "log.csv", "user,item,rating,time\n" + "".join(f"u,1,k{n},1000000000\n" for n in range(40)))
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    config = generic(root, log={"columns": columns, "behaviours": [], "behaviour_column": "rating"})
    (found,) = violations(config, tmp_path / "out")
    assert found.rule.startswith("40 behaviour labels; at most 31")


def test_corrupt_parquet(root: Path, tmp_path: Path) -> None:
    pd.read_csv(root / "items.csv").to_parquet(root / "items.parquet")
    whole = (root / "items.parquet").read_bytes()
    (root / "items.parquet").write_bytes(whole[: len(whole) // 2])
    (found,) = violations(generic(root, items={"path": "items.parquet"}), tmp_path / "out")
    assert found.file == "items.parquet" and found.rule.startswith("not a readable Parquet file")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ragged=st.lists(st.booleans(), min_size=1, max_size=60), block=st.sampled_from([64, 200, 1 << 20]))
def test_rows_keep_their_numbers_between_ragged_ones(tmp_path: Path, ragged: list[bool], block: int) -> None:
    lines = [f"{n}" if bad else f"{n},x" for n, bad in enumerate(ragged, start=1)]
    path = write(tmp_path, "a.csv", "number,other\n" + "\n".join(lines) + "\n")
    into = Violations()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recdistill.ingest.readers._BLOCK_BYTES", block)
        parts = list(blocks(source(path), ["number"], into))
    for part in parts:
        assert part.table["number"].to_pylist() == [str(row) for row in part.rows]
    assert sum(len(part.rows) for part in parts) == ragged.count(False)
    assert [v.count for v in into] == ([ragged.count(True)] if any(ragged) else [])


def test_files_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "u.data", "1\t2\n3\t4\n")
    block = read_whole(source(path, column_names=["a", "b"]), ["b"], Violations())
    assert block is not None and block.table["b"].to_pylist() == ["2", "4"] and block.rows.tolist() == [1, 2]


def test_null_texts_are_a_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a\nNA\n""\n-\n')
    assert read_whole(source(path), ["a"], Violations()).table["a"].to_pylist() == [None, None, "-"]  # type: ignore[union-attr]
    block = read_whole(source(path, null_values=["-"]), ["a"], Violations())
    assert block is not None and block.table["a"].to_pylist() == ["NA", "", None]


def test_parquet_blocks_number_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.ingest.readers._BATCH_ROWS", 7)
    pd.DataFrame({"a": np.arange(1, 31), "b": 0}).to_parquet(tmp_path / "a.parquet")
    block = read_whole(source(tmp_path / "a.parquet"), ["a"], Violations())
    assert block is not None and block.table.column_names == ["a"] and block.table["a"].type == pa.int64()
    assert block.rows.tolist() == block.table["a"].to_pylist()


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    into = Violations()
    assert sources(TableFile(path=Path("parts")), tmp_path, into) == []
    assert [v.rule for v in into] == ["a folder without files"]


def test_parquet_that_is_broken_within(root: Path, tmp_path: Path) -> None:
    titles = [f"title {n} " * 50 for n in range(500)]
    pd.DataFrame({"id": range(500), "title": titles, "genres": "a", "year": 2000}).to_parquet(root / "items.parquet")
    data = bytearray((root / "items.parquet").read_bytes())
    data[2000:9000] = bytes(7000)
    (root / "items.parquet").write_bytes(data)
    (found,) = violations(generic(root, items={"path": "items.parquet"}), tmp_path / "items")
    assert found.rule.startswith("not a readable Parquet file")
    images = {"path": "items.parquet", "key": "id", "bytes": "title"}
    faults = violations(generic(root, images=images), tmp_path / "media")
    assert [v.file for v in faults] == ["items.parquet"]


def columns_of(kind: str) -> dict[str, pa.Array]:
    return {
        "list": pa.array([["a"], ["b"], ["c"]]),
        "struct": pa.array([{"a": 1}] * 3),
        "list of structs": pa.array([[{"a": 1}]] * 3),
        "uuid": pa.array([bytes([200 + n] * 16) for n in range(3)], pa.binary(16)),
        "bytes": pa.array([b"\xff\xfe", b"\xff\xd8", b"\xff"]),
    }[kind]


@pytest.mark.parametrize("kind", ["list", "struct", "list of structs", "uuid", "bytes"])
@pytest.mark.parametrize("role", ["id", "title", "genres"])
def test_columns_of_the_wrong_type_are_told(root: Path, tmp_path: Path, role: str, kind: str) -> None:
    columns = {"id": pa.array([1, 2, 3]), "title": pa.array(["a"] * 3), "genres": pa.array(["x"] * 3)}
    table = pa.table(columns | {"year": pa.array([1.0] * 3), role: columns_of(kind)})
    pq.write_table(table, root / "items.parquet")
    config = generic(root, items={"path": "items.parquet"}, unknown_items="add")
    if (role, kind) == ("genres", "list"):
        ingest(config, out=tmp_path / "out")
        return
    (found,) = [v for v in violations(config, tmp_path / "out") if v.rule.startswith("wrong type")]
    assert (found.file, found.column, found.rows) == ("items.parquet", role, (1, 2, 3)) and found.remedy
    assert found.rule.split("<")[0].endswith(str(table.schema.field(role).type).split("<")[0]) or "UTF-8" in found.rule


@pytest.mark.parametrize("role", ["user", "item", "session", "kind"])
def test_log_columns_of_the_wrong_type_are_told(root: Path, tmp_path: Path, role: str) -> None:
    log = pd.read_csv(root / "log.csv").assign(session="s", kind="k")
    table = pa.Table.from_pandas(log).drop_columns(role).append_column(role, pa.array([{"a": 1}] * len(log)))
    pq.write_table(table, root / "log.parquet")
    columns = {"user": "user", "item": "item", "timestamp": "time", "session": "session"}
    more = {"path": "log.parquet", "columns": columns, "behaviour_column": "kind"}
    (found,) = violations(generic(root, log=more), tmp_path / "out")
    assert (found.file, found.column, found.rows) == ("log.parquet", role, (1, 2, 3, 4))
    assert found.rule == "wrong type: struct<a: int64> instead of text"


def test_views_are_read(root: Path, tmp_path: Path) -> None:
    tables = []
    for text, many in ((pa.string(), pa.list_), (pa.string_view(), pa.list_view)):
        ids, titles = pa.array(["1", "2", "3", None], text), pa.array(["a", "b", "c", "d"], text)
        genres = pa.array([["x"], None, ["y", "z"], []], many(text))
        table = pa.table({"id": ids, "title": titles, "genres": genres, "year": pa.array([1.0] * 4)})
        pq.write_table(table, root / "items.parquet")
        tables.append(run(generic(root, items={"path": "items.parquet"}), tmp_path / "out"))
    assert tables[0] == tables[1] and [row["tags_genres"] for row in tables[1]["items"]] == [["x"], [], ["y", "z"]]


def test_a_column_name_given_twice(root: Path, tmp_path: Path) -> None:
    columns = [pa.array([1]), pa.array(["a"]), pa.array(["b"]), pa.array(["x"]), pa.array([1.0])]
    pq.write_table(pa.table(columns, names=["id", "title", "title", "genres", "year"]), root / "items.parquet")
    write(root, "log.csv", LOG.replace("user,item,rating", "user,item,item"))
    found = violations(generic(root, items={"path": "items.parquet"}), tmp_path / "out")
    twice = {(v.file, v.column) for v in found if v.rule == "2 columns of this name"}
    assert twice == {("items.parquet", "title"), ("log.csv", "item")}


def test_an_empty_part_does_not_turn_ids_into_texts(root: Path, tmp_path: Path) -> None:
    write(root, "parts/a.csv", LOG.replace("u", "").replace("ser", "user"))
    write(root, "parts/b.csv", "user,item,rating,time\n")
    rows = run(generic(root, log={"path": "parts"}, user_ids="int64"), tmp_path / "out")["interactions"]
    assert {type(row[name]) for row in rows for name in ("user_id", "item_id")} == {int}


def test_nan_ids_are_null(root: Path, tmp_path: Path) -> None:
    log = pa.Table.from_pandas(pd.read_csv(root / "log.csv"))
    log = log.set_column(1, "item", pa.array([1.0, float("nan"), 1.0, 3.0]))
    pq.write_table(log, root / "log.parquet")
    (found,) = violations(generic(root, log={"path": "log.parquet"}), tmp_path / "out")
    assert (found.column, found.rule, found.rows) == ("item", "null", (2,))
    items = pa.table({"id": [1.0, 2.0, 3.0, float("nan")], "title": ["a"] * 4, "genres": ["x"] * 4, "year": [1.0] * 4})
    pq.write_table(items, root / "items.parquet")
    tables = run(generic(root, items={"path": "items.parquet"}), tmp_path / "items")
    assert [row["item_id"] for row in tables["items"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "bad"),
    [
        ('1,"One,a,1\n2,Two,b,2\n3,"Three,c,3\n', 1),  # the next opening quote ends it
        ('1,One,a,1\n2,"Two,b,2\n3,Three",c,3\n', 2),
        ('1,One,a,"1\r\n\r\n2,Two,b,2\r\n3,Three,c,"3\r\n', 1),  # a column that is not read
        ('1,One,a,"1\n2,Two,b,2\n3,Three,c,3\n', 1),  # never ends
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t", "::"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_swallowed_by_a_quote_are_told(
    root: Path, tmp_path: Path, rows: str, bad: int, delimiter: str, encoding: str
) -> None:
    text = ("id,title,genres,more\n" + rows).replace(",", delimiter)
    write(root, "items.csv", text.encode(encoding))
    form = {"delimiter": delimiter, "quote": '"', "encoding": encoding, "numbers": {}}
    (found,) = violations(generic(root, items=form, unknown_items="add"), tmp_path / "out")
    assert "swallowed rows" in found.rule and found.rows == (bad,) and "quote: null" in found.remedy
    tables = run(generic(root, items={**form, "quote": None}), tmp_path / "plain")
    assert [row["item_id"] for row in tables["items"]] == [1, 2, 3]
    ingest(generic(root, items={**form, "multiline": True}, unknown_items="add"), out=tmp_path / "believed")


def test_prose_of_several_lines_is_no_swallowed_row(root: Path, tmp_path: Path) -> None:
    write(root, "items.csv", 'id,title,genres,year\n1,"One,\n\ntwo, three\nfour",a,1999\n\n2,"A\nB",b,\n3,,,2001\n')
    tables = run(generic(root), tmp_path / "out")
    assert [row["text_title"] for row in tables["items"]] == ["One,\n\ntwo, three\nfour", "A\nB", None]


def test_quotes_mean_nothing_between_tabs(root: Path, tmp_path: Path) -> None:
    write(root, "items.tsv", 'id\ttitle\tgenres\tyear\n1\t"One\ta\t1\n2\tTwo\tb\t2\n3\tThree"\tc\t3\n')
    tables = run(generic(root, items={"path": "items.tsv"}), tmp_path / "out")
    assert [row["text_title"] for row in tables["items"]] == ['"One', "Two", 'Three"']
    write(root, "items.tsv", '"id"\t"title"\t"genres"\t"year"\n"1"\t"One"\t"a"\t"1"\n')
    found = violations(generic(root, items={"path": "items.tsv"}), tmp_path / "quoted")
    assert {v.rule for v in found} == {"missing column"} and all("quote: '\"'" in v.remedy for v in found)


@pytest.mark.parametrize("name", ["log.parquet.gz", "log.PARQUET", "log.csv.GZ", "log.TSV.Gz"])
def test_endings_of_any_case_and_packed_parquet(root: Path, tmp_path: Path, name: str) -> None:
    plain = run(generic(root), tmp_path / "plain")
    data = LOG.replace(",", "\t" if "TSV" in name else ",").encode()
    if "parquet" in name.lower():
        pd.read_csv(root / "log.csv").to_parquet(root / "log.parquet")
        data = (root / "log.parquet").read_bytes()
    (root / name).write_bytes(gzip.compress(data) if name.lower().endswith("gz") else data)
    assert run(generic(root, log={"path": name}), tmp_path / "out") == plain


def test_packed_parquet_that_is_cut_short(root: Path, tmp_path: Path) -> None:
    pd.read_csv(root / "log.csv").to_parquet(root / "log.parquet")
    packed = gzip.compress((root / "log.parquet").read_bytes())
    (root / "log.parquet.gz").write_bytes(packed[: len(packed) // 2])
    (found,) = violations(generic(root, log={"path": "log.parquet.gz"}), tmp_path / "out")
    assert found.file == "log.parquet.gz" and found.rule.startswith("not a readable Parquet file")
