"""The fast way equals the plain one, and neither partitions, threads nor blocks show in the result."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import plain_pairs
from random_logs import as_files, catalogue, random_events, random_knowledge

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_metadata, read_table
from recdistill.mining import candidates, interests
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import mine_pairs
from recdistill.mining.stage import mine_fit


def rows_of(table: pa.Table) -> list[tuple]:
    frame = table.to_pandas()
    return [
        (row.perspective, row.user_id, row.target_item_id, row.timestamp, list(row.query_item_ids))
        for row in frame.itertuples()
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([1, 3, 1000]), st.sampled_from([1, 4, 1000]), st.sampled_from([1, 2, 3]),
    st.sampled_from(["string", "int64"]),
)  # fmt: skip
def test_equals_the_plain_way(seed, targets, history, needed, id_kind):
    table = random_events(seed, users=6, items=9, events=120, id_kind=id_kind)
    item_ids = catalogue(table)
    log, known = Log.of([table], item_ids=item_ids), random_knowledge(item_ids, seed=seed)
    config = MiningConfig(
        targets_per_user=targets, history=history, single_peak_behaviours=needed, length=3, coverage=0.6,
        target_behaviours=min(needed, 2), content_similarity=-0.3, min_length=1 + seed % 2,
    )  # fmt: skip
    pairs, funnel = mine_pairs(log, known, config, seed=seed)
    assert rows_of(pairs) == plain_pairs(log, known, config, seed=seed)
    for name, of in funnel["perspectives"].items():
        assert of["kept_pairs"] + sum(of["lost"].values()) == of["targets"]
        assert of["kept_users"] == len({row[1] for row in rows_of(pairs) if row[0] == name})


@pytest.mark.parametrize("id_kind", ["string", "int64"])
def test_partitions_and_threads_do_not_show(tmp_path, monkeypatch, id_kind):
    table = random_events(1, id_kind=id_kind)
    files, item_ids = as_files(table, tmp_path), catalogue(table)
    known = random_knowledge(item_ids)
    results = []
    for at, (events, threads, block) in enumerate([(1 << 18, 1, 1 << 17), (100, 1, 1 << 17), (64, 3, 50)]):
        monkeypatch.setattr(candidates.candidate_blocks, "__kwdefaults__", {"block": block, "block_targets": 20_000})
        monkeypatch.setattr(interests, "_SHARES", 8 * block)
        out = tmp_path / str(at)
        config = MiningConfig(partition_events=events, threads=threads, length=4)
        mine_fit(files, item_ids, known, config, out=out, metadata={"seed": 3, "fit": "final"}, seed=3)
        assert sorted(path.name for path in out.iterdir()) == ["funnel.json", "interest_pairs.parquet"]
        assert read_metadata(out / "interest_pairs.parquet") == {"seed": 3, "fit": "final"}
        results.append((read_table(out / "interest_pairs.parquet"), json.loads((out / "funnel.json").read_text())))
    for pairs, funnel in results[1:]:
        assert pairs.equals(results[0][0]) and funnel == results[0][1]
    # … and that is what the whole log in memory gives.
    whole, funnel = mine_pairs(Log.read(files, item_ids=item_ids), known, MiningConfig(length=4), seed=3)
    assert rows_of(results[0][0]) == rows_of(whole) and results[0][1] == funnel
    assert set(whole[names.PERSPECTIVE].to_pylist()) == set(MiningConfig().perspectives)
    assert results[0][0].schema.field(names.QUERY_ITEMS).type.value_type == whole[names.TARGET_ITEM].type


def test_a_user_alone_has_the_same_pairs():
    table = random_events(2)
    item_ids = catalogue(table)
    known, config = random_knowledge(item_ids), MiningConfig(length=3, single_peak_behaviours=2)
    whole = rows_of(mine_pairs(Log.of([table], item_ids=item_ids), known, config, seed=0)[0])
    one = table.filter(pa.compute.equal(table[names.USER_ID], "u0007"))
    alone = rows_of(mine_pairs(Log.of([one], item_ids=item_ids), known, config, seed=0)[0])
    assert alone == [row for row in whole if row[1] == "u0007"] != []


def test_draws_differ_by_seed_perspective_and_target():
    table = random_events(4, users=3, items=30, events=300)
    item_ids = catalogue(table)
    log, known = Log.of([table], item_ids=item_ids), random_knowledge(item_ids)
    config = MiningConfig(length=2, jaccard=0, perspectives=("content_multi_peak", "collaborative_multi_peak"))
    one, other = (rows_of(mine_pairs(log, known, config, seed=seed)[0]) for seed in (0, 1))
    assert np.mean([a[4] == b[4] for a, b in zip(one, other, strict=True)]) < 0.3
    of = {name: {row[1:4]: row[4] for row in one if row[0] == name} for name in config.perspectives}
    multi, clustered = of.values()
    assert np.mean([multi[key] == clustered[key] for key in multi.keys() & clustered.keys()]) < 0.3


def test_a_log_without_events_gives_an_empty_table(tmp_path):
    table = random_events(0)
    files, item_ids = as_files(table, tmp_path), catalogue(table)
    out = tmp_path / "out"
    mine_fit(files[2:], item_ids, random_knowledge(item_ids), MiningConfig(), out=out, metadata={}, seed=0)
    assert pq.read_metadata(out / "interest_pairs.parquet").num_rows == 0
    funnel = json.loads((out / "funnel.json").read_text())
    assert funnel["users"] == 0 and funnel["behaviours"] == []


def test_a_mining_that_fails_leaves_nothing_behind(tmp_path):
    table = random_events(0)
    files = as_files(table, tmp_path)
    unknown = catalogue(table)[:3]  # the log names items that the catalogue lacks
    out = tmp_path / "out"
    with pytest.raises(Exception, match="item ids that the item table does not have"):
        mine_fit(files, unknown, random_knowledge(unknown), MiningConfig(), out=out, metadata={}, seed=0)
    assert list(out.iterdir()) == []
