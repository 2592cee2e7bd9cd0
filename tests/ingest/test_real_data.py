"""Recipes for real data: what their READMEs count is what the tables hold. Skipped where the data are absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.contracts.validate import violations_of
from recdistill.ingest import DataConfig, ingest

POSTERS: dict[str, Any] = {
    "adapter": "generic",
    "interactions": {
        "path": "ratings_ml_latest_small.csv.gz",
        "columns": {"user": "userId", "item": "movieId", "timestamp": "timestamp", "value": "rating"},
        "behaviours": [
            {"name": "like", "column": "rating", "at_least": 4},
            {"name": "love", "column": "rating", "at_least": 5},
        ],
    },
    "items": {
        "path": "items.parquet",
        "id": "ml_latest_movieId",
        "text": {"title": "title", "plot": "omdb_plot", "extract": "wiki_extract"},
        "tags": {
            "genres": {"column": "genres", "separator": "|"},
            "director": {"column": "omdb_director", "separator": ","},
            "actors": {"column": "omdb_actors", "separator": ","},
            "keywords": {"column": "imdb_plot_keywords", "separator": "|"},
        },
        "numbers": {"year": "year"},
        "labels": {"user_tags": {"path": "tags_ml_latest_small.csv.gz", "item": "movieId", "column": "tag"}},
    },
    "images": {"path": "posters.parquet", "key": "imdbId", "bytes": "jpeg", "item_key": "imdbId"},
}
TWEETINGS: dict[str, Any] = {
    "adapter": "generic",
    "interactions": {
        "path": "ratings.csv.gz",
        "columns": {"user": "user_id", "item": "imdbId", "timestamp": "timestamp", "value": "rating"},
        "behaviours": [{"name": "like", "column": "rating", "at_least": 8}],
    },
    "items": {
        "path": "items.parquet", "id": "imdbId", "text": {"title": "title", "extract": "wiki_extract"},
        "tags": {"genres": {"column": "genres", "separator": "|"}}, "numbers": {"year": "year"},
    },
    "images": {"paths": ["posters.parquet", "../movielens-posters/posters.parquet"], "key": "imdbId", "bytes": "jpeg"},
}  # fmt: skip
DESKDROP: dict[str, Any] = {
    "adapter": "generic",
    "interactions": {
        "path": "users_interactions.csv.gz",
        "columns": {"user": "personId", "item": "contentId", "timestamp": "timestamp", "session": "sessionId"},
        "behaviour_column": "eventType",
        "behaviour_map": {
            "VIEW": "view",
            "LIKE": "like",
            "BOOKMARK": "bookmark",
            "COMMENT CREATED": "comment",
            "FOLLOW": "follow",
        },
    },
}


def ingested(section: dict[str, Any], root: Path, out: Path) -> dict[str, Any]:
    """Ingest, check what was written, and give the report."""
    ingest(DataConfig.model_validate(section | {"root": str(root)}), out=out)
    known = {
        "items.item_id": pq.read_table(out / "items.parquet")["item_id"].combine_chunks(),
        "media.media_id": pq.read_table(out / "media.parquet")["media_id"].combine_chunks(),
    }
    for name in ("interactions", "items", "media"):
        assert violations_of(out / f"{name}.parquet", name, known=known) == []
    report: dict[str, Any] = json.loads((out / "validation.json").read_text())
    return report


def test_movielens_posters(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = ingested(POSTERS, shared_data("movielens-posters"), tmp_path)
    log, items = report["interactions"], report["items"]
    assert (log["events"], log["users"], log["items"]) == (100_836, 610, 9_724)
    assert log["first"].startswith("1996-03-29") and log["last"].startswith("2018-09-24")
    assert items["items"] == 9_742 and report["read"]["items"]["dropped"] == {"no id": 318}
    expected = {
        "text_plot": 2_959,
        "text_extract": 6_339,
        "tags_genres": 9_708,
        "tags_keywords": 3_531,
        "images": 8_381,
    }
    assert {name: items["items_with"][name] for name in expected} == expected
    media = pq.read_table(tmp_path / "media.parquet")["bytes"]
    assert len(media) == 8_381 and all(data.as_py().startswith(b"\xff\xd8") for data in media[:50])
    toy_story = pq.read_table(tmp_path / "items.parquet").to_pylist()[0]
    assert (
        toy_story["item_id"] == 1 and toy_story["text_title"] == "Toy Story (1995)" and toy_story["number_year"] == 1995
    )
    assert toy_story["tags_keywords"] == ["claw crane", "cowboy", "jealousy", "rivalry", "toy"]
    assert toy_story["images"] == ["images:0114709:0"] and "pixar" in toy_story["labels_user_tags"]


def test_movietweetings_joins_posters_of_two_sets(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    shared_data("movielens-posters")
    report = ingested(TWEETINGS, shared_data("movietweetings"), tmp_path)
    assert (report["interactions"]["events"], report["interactions"]["users"]) == (47_889, 8_572)
    assert report["interactions"]["users_without_positive"] > 0
    items = pq.read_table(tmp_path / "items.parquet")
    assert len(items) == 7_316 and "0002844" in items["item_id"].to_pylist()  # leading zeros
    pictured = items.filter(pc.greater(pc.list_value_length(items["images"]), 0))["item_id"]
    log = pq.read_table(tmp_path / "interactions.parquet")["item_id"]
    assert 0.81 < pc.mean(pc.is_in(log, value_set=pictured.combine_chunks()).cast("float32")).as_py() < 0.83


def test_deskdrop_has_five_kinds_of_event(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = ingested(DESKDROP, shared_data("deskdrop-interactions"), tmp_path / "plain")
    log, dropped = report["interactions"], report["read"]["interactions"]["dropped"]["exact duplicate"]
    assert report["read"]["interactions"]["rows_read"] == 72_312 == log["events"] + dropped
    assert (log["users"], log["items"], len(log["behaviours"])) == (1_895, 2_987, 5)
    assert pq.read_schema(tmp_path / "plain" / "items.parquet").names == ["item_id"]
    section = DESKDROP | {"interactions": DESKDROP["interactions"] | {"merge_within_seconds": 1e9}}
    merged = ingested(section, shared_data("deskdrop-interactions"), tmp_path / "merged")
    assert merged["interactions"]["events"] == 40_710  # distinct pairs of user and article


def test_mind_small_sample(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    report = ingested({"adapter": "mind"}, shared_data("mind-small-sample"), tmp_path)
    assert report["read"]["interactions"]["shown_items"] == 189_359
    log = pq.read_table(tmp_path / "interactions.parquet")
    shown = log.filter(log["impression_id"].is_valid())
    clicks = pc.greater(pc.list_value_length(shown["behaviours"]), 0)
    assert len(shown) == 189_359 and abs(pc.mean(clicks.cast("float64")).as_py() - 0.0398) < 5e-5
    assert (len(pc.unique(shown["item_id"])), len(pc.unique(shown["user_id"]))) == (7_457, 4_637)
    past = log.filter(log["impression_id"].is_null())
    assert pc.max(past["timestamp"]).as_py() < pc.min(shown["timestamp"]).as_py()
    assert report["items"]["items_with"]["text_abstract"] == 1_901
