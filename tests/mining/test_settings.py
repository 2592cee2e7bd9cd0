"""What the settings change: labels, columns as behaviours, content tables, tags, k-means; and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError
from random_logs import as_files, catalogue, random_events, random_knowledge

from recdistill.config import load_recipe
from recdistill.contracts import names
from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.errors import UserError
from recdistill.inputs import input_places
from recdistill.mining.behaviours import kinds_of, relabel
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import mine_pairs
from recdistill.mining.knowledge import external_content, tag_clusters
from recdistill.mining.stream import Survey
from recdistill.retrieval.clusters import clusters

DEMO = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "demo.yaml"


def events() -> pa.Table:
    return pa.table(
        {
            names.USER_ID: ["u"] * 5,
            names.BEHAVIOURS: pa.array([["like"], [], ["click", "like"], ["click"], []], pa.list_(pa.string())),
            names.VALUE: pa.array([5, 4, None, 1, 2], pa.float32()),
            names.SESSION_ID: ["a", "b", "a", None, "c"],
        }
    )


def labels_of(**changes: object) -> list[list[str]]:
    return [sorted(of) for of in relabel(events(), MiningConfig(**changes))[names.BEHAVIOURS].to_pylist()]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [["like"], [], ["click", "like"], ["click"], []]),
        ({"labels": ("click",)}, [[], [], ["click"], ["click"], []]),
        ({"behaviours": ({"name": "good", "column": "value", "at_least": 4},)},
         [["good", "like"], ["good"], ["click", "like"], ["click"], []]),
        ({"labels": ("click",), "behaviours": ({"name": "bad", "column": "value", "at_most": 2},)},
         [[], [], ["click"], ["bad", "click"], ["bad"]]),
        ({"behaviours": ({"name": "two", "column": "value", "equals": 2},)},
         [["like"], [], ["click", "like"], ["click"], ["two"]]),
        ({"labels": ("like",), "behaviours": ({"name": "home", "column": "session_id", "one_of": ["a", "c"]},)},
         [["home", "like"], [], ["home", "like"], [], ["home"]]),
        ({"labels": ("click",), "behaviours": ({"name": "seen"},)},
         [["seen"], ["seen"], ["click", "seen"], ["click", "seen"], ["seen"]]),
    ],
)  # fmt: skip
def test_behaviours_come_from_any_column(changes, expected):
    assert labels_of(**changes) == expected
    assert kinds_of([events()], MiningConfig(**changes)) == {label for of in expected for label in of}


def test_behaviours_of_columns_decide_who_is_a_target_and_what_is_a_peak():
    table = random_events(6)
    item_ids = catalogue(table)
    rule = BehaviourRule(name="long", column="dwell_seconds", at_least=30)
    config = MiningConfig(labels=("like",), behaviours=(rule,), single_peak_behaviours=2, target_behaviours=2)
    log = Log.of([relabel(table, config)], item_ids=item_ids)
    pairs, funnel = mine_pairs(log, random_knowledge(item_ids), config, seed=0)
    assert funnel["behaviours"] == ["like", "long"] and funnel["single_peak_behaviours"] == 2
    frame = table.to_pandas()
    loved = frame[frame.behaviours.map(lambda of: "like" in of) & (frame.dwell_seconds >= 30)]
    both = set(zip(loved.user_id, loved.item_id, strict=True))
    found = pairs.to_pandas()
    assert {(row.user_id, row.target_item_id) for row in found.itertuples()} <= both
    single = found[found.perspective == "content_single_peak"]
    assert len(single) > 20
    assert all((row.user_id, item) in both for row in single.itertuples() for item in row.query_item_ids)


def test_what_the_log_lacks_is_said(tmp_path):
    table = random_events(0)
    files = as_files(table, tmp_path)
    with pytest.raises(UserError, match=r"mining.labels names loved, which no event"):
        Survey.of(files, MiningConfig(labels=("like", "loved")))
    rule = BehaviourRule(name="first", column="position", at_most=1)
    with pytest.raises(UserError, match="reads 'position', which the interactions lack"):
        relabel(table, MiningConfig(behaviours=(rule,)))
    text = BehaviourRule(name="late", column="session_id", at_least=1)
    with pytest.raises(UserError, match="compares 'session_id' with a number"):
        relabel(table, MiningConfig(behaviours=(text,)))
    with pytest.raises(ValidationError, match="reads column 'item_id'; there are value"):
        MiningConfig(behaviours=(BehaviourRule(name="x", column="item_id", equals="i1"),))


def test_an_item_is_of_its_rarest_usual_tag(tmp_path):
    tags = [["drama"]] * 12 + [["drama", "noir"]] * 11 + [["noir", "solo"], [], ["solo"]]
    ids = [f"i{at}" for at in range(len(tags))]
    items = tmp_path / "items.parquet"
    write_table(pa.table({names.ITEM_ID: ids, "tags_genres": pa.array(tags, pa.list_(pa.string()))}), items)
    found = tag_clusters(items, "genres", pd.Index([*reversed(ids), "new"]))[:-1][::-1]
    drama, noir, noir_too, none, rare = found[0], found[12], found[23], found[24], found[25]
    assert drama >= 0 and noir >= 0 and drama != noir and noir_too == noir and none == rare == -1
    assert tag_clusters(items, "genres", pd.Index(["new"])).tolist() == [-1]
    with pytest.raises(UserError, match="no field of tags 'actors'"):
        tag_clusters(items, "actors", pd.Index(ids))


def test_content_comes_from_any_table(tmp_path):
    path = tmp_path / "student.parquet"
    with pytest.raises(UserError, match="no such table of item vectors"):
        external_content(path, pd.Index(["a"]))
    EmbeddingTable(pd.Index(["a", "b"]), np.eye(2, dtype=np.float32)).write(path)
    assert external_content(path, pd.Index(["b", "c"])).ids.tolist() == ["a", "b"]
    with pytest.raises(UserError, match="no id in common"):
        external_content(path, pd.Index([1, 2]))


def test_its_file_is_an_input_of_the_run(tmp_path):
    path = tmp_path / "student.parquet"
    assert path in list(input_places(load_recipe(DEMO, [f"mining.content={path}"])))
    assert path not in list(input_places(load_recipe(DEMO)))


def test_tags_need_no_teacher():
    tagged = ["teachers.id=null", "mining.tags=genre", "distill.trials=[{weights: {relational: 0, alignment: 0}}]"]
    without = [*tagged, "evaluate.baselines.include=[popularity]"]
    assert load_recipe(DEMO, without).mining.tags == "genre"
    with pytest.raises(UserError, match=r"mining\.teacher: no teacher 'id_teacher'"):
        load_recipe(DEMO, [*without, "mining.tags=null"])


@pytest.mark.parametrize("kind", ["full", "mini_batch"])
def test_both_kinds_of_k_means_find_plain_clusters(kind):
    centres = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0)
    vectors = centres + 0.05 * np.random.default_rng(0).normal(size=centres.shape).astype(np.float32)
    table = EmbeddingTable(pd.Index(range(120)), vectors)
    found = clusters(table, table.ids, count=4, seed=1, kind=kind).reshape(4, 30)
    assert all(len(set(part)) == 1 for part in found.tolist()) and len(set(found[:, 0].tolist())) == 4
