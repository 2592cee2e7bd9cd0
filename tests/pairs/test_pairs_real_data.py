"""Pair datasets of real films: related by what their labels say, and not by popularity. Skipped without the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import read_table
from recdistill.contracts.validate import violations_of
from recdistill.ingest import DataConfig, ingest
from recdistill.pairs import PairsConfig, pair
from recdistill.split import SplitConfig, split

DATA = {
    "adapter": "generic",
    "interactions": {
        "path": "ratings_ml_latest_small.csv.gz",
        "columns": {"user": "userId", "item": "movieId", "timestamp": "timestamp", "value": "rating"},
        "behaviours": [{"name": "like", "column": "rating", "at_least": 4}],
    },
    "items": {
        "path": "items.parquet",
        "id": "ml_latest_movieId",
        "text": {"title": "title", "plot": "omdb_plot", "extract": "wiki_extract"},
        "tags": {
            "genres": {"column": "genres", "separator": "|"},
            "director": {"column": "omdb_director", "separator": ", "},
            "keywords": {"column": "imdb_plot_keywords", "separator": "|"},
        },
        "labels": {"user_tags": {"path": "tags_ml_latest_small.csv.gz", "item": "movieId", "column": "tag"}},
    },
}
MADE = ("co_consumption", "session", "same_tag", "same_author", "text_ngram", "item_label")


@pytest.fixture(scope="module")
def films(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    ingest(DataConfig.model_validate(DATA | {"root": str(shared_data("movielens-posters"))}), out=root / "data")
    split(SplitConfig(), data=root / "data", out=root / "split")
    off = dict.fromkeys(set(PairsConfig.model_fields) - set(MADE))
    pair(
        PairsConfig.model_validate(off),
        fold=Fold(root / "split" / "time"),
        items=root / "data" / "items.parquet",
        queries=None,
        teach=None,
        out=root / "pair",
        seed=0,
    )
    return root


def pairs_of(root: Path, name: str) -> pd.DataFrame:
    return read_table(root / "pair" / "final" / f"{name}.parquet").to_pandas()


def test_every_dataset_has_pairs_that_satisfy_the_contract(films: Path) -> None:
    known = {"items.item_id": read_table(films / "data" / "items.parquet")[names.ITEM_ID].combine_chunks()}
    summary = json.loads((films / "pair" / "pairs.json").read_text())["final"]
    assert set(summary) == set(MADE)
    for name in MADE:
        assert violations_of(films / "pair" / "final" / f"{name}.parquet", "pair_dataset", known=known) == []
        assert summary[name]["rows"] > 1000, summary[name]
    assert summary["session"]["users_of_one_session"] > 0.3 * summary["session"]["users"]


@pytest.mark.parametrize("name", ["co_consumption", "session", "same_tag", "same_author", "text_ngram"])
def test_pairs_share_genres_more_often_than_strangers(films: Path, name: str) -> None:
    items = read_table(films / "data" / "items.parquet", columns=[names.ITEM_ID, "tags_genres"]).to_pandas()
    genres = {item: set(of) for item, of in zip(items[names.ITEM_ID], items["tags_genres"], strict=True)}
    pairs = pairs_of(films, name)
    query = [genres[item] for item in pairs[names.QUERY_ITEM]]
    target = [genres[item] for item in pairs[names.TARGET_ITEM]]
    stranger = [target[row] for row in np.random.default_rng(0).permutation(len(target))]

    def alike(others: list[set[str]]) -> float:
        return float(
            np.mean([len(one & other) / max(len(one | other), 1) for one, other in zip(query, others, strict=True)])
        )

    assert alike(target) > 1.15 * alike(stranger)


def test_targets_of_co_consumption_are_not_the_most_popular(films: Path) -> None:
    log = Fold(films / "split" / "time").training("final")
    count = pd.Series(np.bincount(log.item[log.positive()], minlength=len(log.item_ids)), index=log.item_ids)
    pairs = pairs_of(films, "co_consumption")
    liked = np.unique(np.stack([log.user, log.item])[:, log.positive()], axis=1)
    matrix = sparse.csr_matrix((np.ones(liked.shape[1]), liked), (len(log.user_ids), len(log.item_ids)))
    asked = log.item_ids.get_indexer(pairs[names.QUERY_ITEM].unique())
    together = (matrix.T[asked] @ matrix).toarray()
    together[np.arange(len(asked)), asked] = 0
    by_count = count.iloc[np.argsort(-together, axis=1)[:, :10].ravel()].mean()
    assert count[pairs[names.TARGET_ITEM]].mean() < 0.4 * by_count
    assert pairs[names.TARGET_ITEM].value_counts(normalize=True).iloc[0] < 0.01


def test_item_labels_are_classes(films: Path) -> None:
    labels = pairs_of(films, "item_label")[names.TARGET_TEXT]
    assert "genres: Comedy" in set(labels) and labels.str.split(": ", n=1).str[0].nunique() == 3
    assert "genres: Drama" in set(labels)  # 44 % of the films
