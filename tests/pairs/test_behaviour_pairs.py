"""Pairs of sessions and searches: worlds whose pairs are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pair_worlds import catalogue, listed, make_log, write_fold, write_queries

from recdistill.pairs.behaviour import Searches
from recdistill.pairs.co_consumption import co_consumption
from recdistill.pairs.co_search import co_search
from recdistill.pairs.config import CoConsumptionConfig, CoSearchConfig, QueryItemConfig, SessionConfig
from recdistill.pairs.query_item import query_item
from recdistill.pairs.session import session

IDS = [f"i{row}" for row in range(6)]
HOUR = 3600


def test_co_consumption_counts_users_once_and_positives_only(tmp_path):
    events = [(user, item, 9 * user + item) for user in range(3) for item in (0, 1)] + [
        (0, 0, 99),
        (3, 2, 1),
        (3, 3, 2),
    ]
    log = make_log(events, items=6)
    config = CoConsumptionConfig(min_together=2, shrinkage=0)
    found = co_consumption(config, catalogue(tmp_path, IDS), log, seed=0)
    assert listed(found) == pytest.approx({("i0", "i1"): 1.0, ("i1", "i0"): 1.0})
    log = replace(log, behaviours=np.where(log.user == 2, 0, log.behaviours).astype(np.int32))
    (score, _) = listed(co_consumption(config, catalogue(tmp_path, IDS), log, seed=0)).values()
    assert score == pytest.approx(1.0)
    assert not len(co_consumption(CoConsumptionConfig(min_together=3), catalogue(tmp_path, IDS), log, seed=0))


def test_a_session_pairs_what_was_met_together_and_not_what_the_user_met_at_another_time(tmp_path):
    sittings = [
        (user, item, day * 24 * HOUR + item) for user in range(4) for day, item in [(0, 0), (0, 1), (1, 2), (1, 3)]
    ]
    log = make_log(sittings, items=6)
    config = SessionConfig(min_together=2, shrinkage=0)
    found = session(config, catalogue(tmp_path, IDS), log, seed=0)
    assert set(listed(found)) == {("i0", "i1"), ("i1", "i0"), ("i2", "i3"), ("i3", "i2")}
    assert found.about == {"sessions": 8, "users": 4, "users_of_one_session": 0}
    together = co_consumption(CoConsumptionConfig(min_together=2), catalogue(tmp_path, IDS), log, seed=0)
    assert not len(together)  # everybody has all four: by users they say nothing


def test_logs_filled_in_one_sitting_have_no_sessions_and_say_so(tmp_path):
    log = make_log([(user, item, 60 * item) for user in range(4) for item in range(user + 2)], items=6)
    found = session(SessionConfig(min_together=1), catalogue(tmp_path, IDS), log, seed=0)
    assert not len(found) and "one session" in found.why
    assert found.about["users_of_one_session"] == found.about["users"] == 4


SEARCHES = [("Red  shoes", "i0", 1), ("red shoes", "i1", 2), ("red shoes", "i1", 3), ("hat", "i2", 4), ("hat", "i9", 5)]


def searches_of(tmp_path, **more: pa.Array) -> Searches:
    fold = write_fold(
        tmp_path / "f", IDS, train=[("u", "i0", 0)], validation=[("u", "i0", 100)], test=[("u", "i0", 200)]
    )
    path = write_queries(tmp_path / "q.parquet", SEARCHES, **more)
    return Searches.read(path, fold, "selection", pd.Index(IDS))


def test_queries_are_folded_and_items_that_the_catalogue_lacks_are_left_out(tmp_path):
    searches = searches_of(tmp_path)
    assert searches.texts.tolist() == ["hat", "red shoes"] and searches.left_out == 1
    assert searches.texts[searches.query].tolist() == ["red shoes"] * 3 + ["hat"]


def test_query_item_scores_grow_with_the_logarithm_of_clicks(tmp_path):
    items = catalogue(tmp_path, IDS)
    found = query_item(QueryItemConfig(), items, searches_of(tmp_path))
    one = math.log(2) / math.log(3)
    assert listed(found) == pytest.approx({("hat", "i2"): one, ("red shoes", "i0"): one, ("red shoes", "i1"): 1.0})
    assert found.graded and found.query.text and not found.target.text
    found = query_item(QueryItemConfig(), items, searches_of(tmp_path, clicks=pa.array([0, 3, 4, 1, 1])))
    assert listed(found) == pytest.approx({("hat", "i2"): math.log(2) / math.log(8), ("red shoes", "i1"): 1.0})
    assert found.about == {"events_left_out": 1, "scores": "clicks"}


def test_judgements_stand_for_themselves(tmp_path):
    judged = pa.array([0.25, 0.5, 1.0, None, 0.1], pa.float32())
    found = query_item(QueryItemConfig(), catalogue(tmp_path, IDS), searches_of(tmp_path, score=judged))
    assert listed(found) == pytest.approx({("red shoes", "i0"): 0.25, ("red shoes", "i1"): 0.75})
    assert found.about["scores"] == "judgements"


def test_co_search_pairs_items_of_one_query(tmp_path):
    items = catalogue(tmp_path, IDS)
    found = co_search(CoSearchConfig(shrinkage=0), items, searches_of(tmp_path), seed=0)
    assert listed(found) == pytest.approx({("i0", "i1"): 1.0, ("i1", "i0"): 1.0})
    unclicked = searches_of(tmp_path, clicks=pa.array([0, 1, 1, 1, 1]))
    assert not len(co_search(CoSearchConfig(), items, unclicked, seed=0))
