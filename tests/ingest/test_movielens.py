"""The layouts of MovieLens are found and give the same tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ingest_helpers import run, violations, write

from recdistill.errors import UserError
from recdistill.ingest import DataConfig, ingest, input_fingerprint

RATINGS = [(1, 10, 5, 1_000_000_000), (1, 20, 4, 1_000_000_050), (2, 10, 3, 1_000_000_100)]
MOVIES = [(10, "Café, The (1995)", ["Comedy", "Drama"]), (20, "Babylon 5", []), (30, "Heat (1995-)", ["Crime"])]
GENRES = ["unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama"] + [
    "x"
] * 10


def ml_100k(folder: Path) -> None:
    write(folder, "u.data", "".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    flags = [[str(int(genre in genres)) for genre in GENRES] for _, _, genres in MOVIES]
    rows = [
        "|".join([str(i), title, "01-Jan-1995", "", "http://x", *flag])
        for (i, title, _), flag in zip(MOVIES, flags, strict=True)
    ]
    write(folder, "u.item", "\n".join(rows).encode("latin-1"))


def ml_1m(folder: Path) -> None:
    write(folder, "ratings.dat", "".join("::".join(map(str, row)) + "\n" for row in RATINGS))
    rows = ["::".join([str(i), title, "|".join(genres)]) for i, title, genres in MOVIES]
    write(folder, "movies.dat", "\n".join(rows).encode("latin-1"))


def ml_latest(folder: Path) -> None:
    write(
        folder,
        "ratings.csv.gz",
        "userId,movieId,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in RATINGS),
    )
    rows = [f'{i},"{title}",{"|".join(genres) or "(no genres listed)"}' for i, title, genres in MOVIES]
    write(folder, "movies.csv", "\n".join(["movieId,title,genres", *rows]))


def config(root: Path, **more: Any) -> DataConfig:
    return DataConfig.model_validate({"adapter": "movielens", "root": str(root), **more})


@pytest.mark.parametrize("layout", [ml_100k, ml_1m, ml_latest])
@pytest.mark.parametrize("folder", [".", "unpacked"])
def test_layouts(tmp_path: Path, layout: Any, folder: str) -> None:
    layout(tmp_path / "raw" / folder)
    tables = run(config(tmp_path / "raw"), tmp_path / "out")
    assert tables["items"] == [
        {"item_id": 10, "text_title": "Café, The", "tags_genres": ["Comedy", "Drama"], "number_year": 1995.0},
        {"item_id": 20, "text_title": "Babylon 5", "tags_genres": [], "number_year": None},
        {"item_id": 30, "text_title": "Heat", "tags_genres": ["Crime"], "number_year": 1995.0},
    ]
    found = {(row["user_id"], row["item_id"]): (row["value"], row["behaviours"]) for row in tables["interactions"]}
    assert found == {(1, 10): (5.0, ["like", "love"]), (1, 20): (4.0, ["like"]), (2, 10): (3.0, [])}


def test_tags_are_labels_and_links_find_posters(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ml_latest(root)
    write(root, "tags.csv", 'userId,movieId,tag,timestamp\n1,10,"fun, dark",1\n1,10,slow,1\n2,10,slow,1\n')
    write(root, "links.csv", "movieId,imdbId,tmdbId\n10,0114709,862\n30,0113277,949\n")
    write(root, "posters/0114709.jpg", b"x")
    tables = run(config(root, images={"folder": "posters", "item_key": "imdbId"}), tmp_path / "out")
    assert tables["items"][0]["labels_tags"] == ["slow", "fun, dark"] and tables["items"][1]["labels_tags"] == []
    assert [len(row["images"]) for row in tables["items"]] == [1, 0, 0]


def test_other_thresholds(tmp_path: Path) -> None:
    ml_latest(tmp_path / "raw")
    rules = [{"name": "seen", "column": "rating", "at_least": 3}]
    tables = run(config(tmp_path / "raw", movielens={"behaviours": rules}), tmp_path / "out")
    assert all(row["behaviours"] == ["seen"] for row in tables["interactions"])


def test_faults_name_the_sets_own_files(tmp_path: Path) -> None:
    ml_1m(tmp_path / "raw")
    write(tmp_path / "raw", "ratings.dat", "1::10::5::1000000000\n1::77::4::0\n")
    found = {(v.file, v.column): v.rows for v in violations(config(tmp_path / "raw"), tmp_path / "out")}
    assert found == {("ratings.dat", "movieId"): (2,), ("ratings.dat", "timestamp"): (2,)}


def test_what_is_not_movielens(tmp_path: Path) -> None:
    write(tmp_path / "raw", "ratings.csv", "a,b\n1,2\n")
    with pytest.raises(UserError, match=r"ml-latest lacks movies\.csv"):
        ingest(config(tmp_path / "raw"), out=tmp_path / "out")
    with pytest.raises(UserError, match="no MovieLens set"):
        input_fingerprint(config(tmp_path / "nowhere"))


def test_ml_10m_is_utf8_in_the_layout_of_ml_1m(tmp_path: Path) -> None:
    ml_1m(tmp_path / "raw")
    path = tmp_path / "raw" / "movies.dat"
    path.write_bytes(path.read_bytes().decode("latin-1").encode())
    write(tmp_path / "raw", "tags.dat", "1::10::déjà vu::1\n".encode("latin-1"))  # each file is judged by itself
    (first, *_) = run(config(tmp_path / "raw"), tmp_path / "out")["items"]
    assert first["text_title"] == "Café, The" and first["labels_tags"] == ["déjà vu"]
