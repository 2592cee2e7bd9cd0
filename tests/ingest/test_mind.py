"""MIND's impressions become interactions with real non-clicks; its histories lie before the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ingest_helpers import run, violations, write

from recdistill.errors import UserError
from recdistill.ingest import DataConfig, ingest

START = datetime(2019, 11, 9, 8, 0, 0, tzinfo=UTC)
LOG = (
    "1\tU1\t11/9/2019 8:00:00 AM\tN1 N2 N1\tN3-1 N4-0 N5-0\n"
    "2\tU1\t11/9/2019 1:30:05 PM\tN1 N2 N1 N9\tN4-1\n"
    "3\tU2\t11/10/2019 12:00:00 AM\t\tN3-0 N5-1\n"
)
NEWS = (
    'N1\tsports\tgolf\t"Saturday" Night golf\tText\thttps://x\t[]\t[]\n'
    'N3\tnews\tworld\t"Unbalanced title\t\thttps://x\t[{"Label": "a"}]\t[]\n'
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "raw", "behaviors.tsv", LOG)
    write(tmp_path / "raw", "news.tsv", NEWS)
    return tmp_path / "raw"


def config(root: Path, **mind: Any) -> DataConfig:
    return DataConfig.model_validate({"adapter": "mind", "root": str(root), "mind": mind})


def test_impressions_and_history(root: Path, tmp_path: Path) -> None:
    tables = run(config(root, history_spacing_seconds=60), tmp_path / "out")
    rows = tables["interactions"]
    shown = sorted(
        (r["impression_id"], r["position"], r["user_id"], r["item_id"], tuple(r["behaviours"]))
        for r in rows
        if r["impression_id"]
    )
    assert shown == [
        ("1", 1, "U1", "N3", ("click",)), ("1", 2, "U1", "N4", ()), ("1", 3, "U1", "N5", ()),
        ("2", 1, "U1", "N4", ("click",)), ("3", 1, "U2", "N3", ()), ("3", 2, "U2", "N5", ("click",)),
    ]  # fmt: skip
    assert {r["timestamp"] for r in rows if r["impression_id"] == "2"} == {
        START + timedelta(hours=5, minutes=30, seconds=5)
    }
    assert {r["timestamp"] for r in rows if r["impression_id"] == "3"} == {START + timedelta(hours=16)}
    past = sorted((r["timestamp"], r["user_id"], r["item_id"], r["behaviours"]) for r in rows if not r["impression_id"])
    assert past == [
        (START - timedelta(minutes=k), "U1", item, ["click"]) for k, item in ((3, "N1"), (2, "N2"), (1, "N1"))
    ]
    assert [r["item_id"] for r in tables["items"]] == ["N1", "N2", "N3", "N4", "N5"]


def test_news_as_published_and_rewritten_with_header_and_quotes(root: Path, tmp_path: Path) -> None:
    plain = run(config(root), tmp_path / "plain")
    titles = {row["item_id"]: row["text_title"] for row in plain["items"]}
    assert titles == {"N1": '"Saturday" Night golf', "N3": '"Unbalanced title', "N2": None, "N4": None, "N5": None}
    assert plain["items"][0]["tags_category"] == ["sports"] and plain["items"][0]["tags_subcategory"] == ["golf"]
    header = "news_id\tcategory\tsubcategory\ttitle\tabstract\turl\ttitle_entities\tabstract_entities\n"
    quoted = "\n".join(
        "\t".join('"' + v.replace('"', '""') + '"' if '"' in v else v for v in line.split("\t"))
        for line in NEWS.splitlines()
    )
    (root / "news.tsv").unlink()
    write(root, "news.tsv.gz", header + quoted)
    write(root, "behaviors.tsv", "impression_id\tuser_id\ttime\thistory\timpressions\n" + LOG)
    assert run(config(root), tmp_path / "rewritten") == plain


def test_several_folders(root: Path, tmp_path: Path) -> None:
    for name in ("train", "dev"):
        write(root, f"{name}/behaviors.tsv", LOG)
        write(root, f"{name}/news.tsv", NEWS)
    rows = run(config(root, folders=["train", "dev"]), tmp_path / "out")["interactions"]
    assert {r["impression_id"] for r in rows if r["impression_id"]} == {
        f"{f}/{n}" for f in ("train", "dev") for n in "123"
    }
    assert sum(r["impression_id"] is None for r in rows) == 3  # a user's history is taken once


def test_without_history(root: Path, tmp_path: Path) -> None:
    assert len(run(config(root, history=False), tmp_path / "out")["interactions"]) == 6
    report = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert report["read"]["interactions"]["rows_read"] == 3 and report["interactions"]["behaviours"] == {"click": 3}


def test_bad_lines(root: Path, tmp_path: Path) -> None:
    bad = LOG + "4\tU3\t2019-11-09\t\tN1-1\n5\tU3\t11/9/2019 8:00:00 AM\t\tN1-1 N2\n6\t\t11/9/2019 8:00:00 AM\t\tN1-0\n"
    write(root, "behaviors.tsv", bad)
    found = {(v.column, v.rows) for v in violations(config(root), tmp_path / "out")}
    assert found == {("time", (4,)), ("impressions", (5,)), ("user_id", (6,))}


def test_times_are_checked(root: Path, tmp_path: Path) -> None:
    write(root, "behaviors.tsv", LOG.replace("11/10/2019", "11/10/2919"))
    (found,) = violations(config(root), tmp_path / "out")
    assert (found.column, found.rule, found.rows) == ("time", "in the future", (3,))


def test_duplicate_news(root: Path, tmp_path: Path) -> None:
    write(root, "news.tsv", NEWS + NEWS)
    (found,) = violations(config(root), tmp_path / "out")
    assert found.file == "news.tsv" and found.rows == (3, 4)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither behaviors\.tsv nor behaviors\.tsv\.gz"):
        ingest(config(tmp_path), out=tmp_path / "out")


def test_doubled_quotes_in_a_title_are_no_quoting(root: Path, tmp_path: Path) -> None:
    write(root, "news.tsv", NEWS.replace('"Saturday" Night', 'Say ""hi""'))
    titles = {row["item_id"]: row["text_title"] for row in run(config(root), tmp_path / "out")["items"]}
    assert (titles["N1"], titles["N3"]) == ('Say ""hi"" golf', '"Unbalanced title')


def test_rows_swallowed_by_a_quote_are_told(root: Path, tmp_path: Path) -> None:
    quoted = 'N0\tnews\tx\t"A ""b"""\t\t\t[]\t[]\n'
    padding = "".join(f"P{n}\tnews\tx\t{'t' * 1000}\t\t\t[]\t[]\n" for n in range(1100))  # more than is sniffed
    rows = "".join(f"N{n}\tnews\tx\t{title}\t\t\t[]\t[]\n" for n, title in ((1, '"One'), (2, "Two"), (3, '"Three')))
    write(root, "news.tsv", quoted + padding + rows)
    found = violations(config(root), tmp_path / "out")
    assert any("swallowed rows" in v.rule and v.file == "news.tsv" for v in found)
