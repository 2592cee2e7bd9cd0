"""Mining under a real local Spark equals mining here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator

import pytest
from random_logs import as_files, catalogue, random_events, random_knowledge

from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.contracts.tables import read_metadata, read_table
from recdistill.errors import UserError
from recdistill.mining.config import MiningConfig
from recdistill.mining.stage import mine_fit


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
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
        yield
        session.stop()


@pytest.mark.parametrize("id_kind", ["string", "int64"])
def test_spark_finds_what_one_machine_finds(spark: None, tmp_path, id_kind):
    table = random_events(5, id_kind=id_kind)
    files, item_ids = as_files(table, tmp_path), catalogue(table)
    known = random_knowledge(item_ids)
    rule = BehaviourRule(name="long", column="dwell_seconds", at_least=60)
    results = {}
    for engine in ("local", "spark"):
        config = MiningConfig(engine=engine, partition_events=200, length=4, behaviours=(rule,))
        out = tmp_path / engine
        mine_fit(files, item_ids, known, config, out=out, metadata={"seed": 1}, seed=1)
        assert sorted(path.name for path in out.iterdir()) == ["funnel.json", "interest_pairs.parquet"]
        results[engine] = read_table(out / "interest_pairs.parquet"), json.loads((out / "funnel.json").read_text())
    assert results["spark"][0].equals(results["local"][0])
    assert results["spark"][1] == results["local"][1]
    assert len(results["local"][0]) > 500
    assert read_metadata(tmp_path / "spark" / "interest_pairs.parquet") == {"seed": 1}


def test_an_empty_log_is_no_trouble(spark: None, tmp_path):
    table = random_events(0)
    files, item_ids = as_files(table, tmp_path), catalogue(table)
    config, out = MiningConfig(engine="spark"), tmp_path / "out"
    mine_fit(files[2:], item_ids, random_knowledge(item_ids), config, out=out, metadata={}, seed=0)
    assert len(read_table(out / "interest_pairs.parquet")) == 0
    assert json.loads((out / "funnel.json").read_text())["users"] == 0


def test_a_worker_s_refusal_reaches_the_user_as_it_is_with_its_remedy(spark: None, tmp_path):
    table = random_events(3)
    files, item_ids = as_files(table, tmp_path), catalogue(table)
    known, raised = random_knowledge(item_ids[1:]), {}
    for engine in ("local", "spark"):
        config = MiningConfig(engine=engine, partition_events=100)
        with pytest.raises(UserError) as caught:
            mine_fit(files, item_ids[1:], known, config, out=tmp_path / engine, metadata={}, seed=1)
        raised[engine] = caught.value.message, caught.value.remedy
    assert raised["spark"] == raised["local"] and all(raised["local"])
    assert not (tmp_path / "spark" / "interest_pairs.parquet").exists()
