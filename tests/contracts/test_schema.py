"""The contract files are valid ODCS v3, complete, and mean what the tables are."""

from __future__ import annotations

import importlib.resources
import json

import jsonschema
import pyarrow as pa
import pytest
import yaml

from recdistill.contracts import names
from recdistill.contracts.rules import broken_by
from recdistill.contracts.schema import contract_names, contract_versions, load_contract
from recdistill.errors import UserError
from recdistill.resources import data_contracts

TABLES = [
    "interactions", "interest_pairs", "item_embeddings", "item_features", "items", "match_features", "media",
    "metric_records", "pair_dataset", "queries", "semantic_ids", "split", "teacher_embeddings", "user_embeddings",
]  # fmt: skip


def test_every_file_is_a_contract_of_a_table() -> None:
    assert contract_names() == TABLES
    assert len(list(data_contracts().rglob("*"))) == len(TABLES)
    assert set(contract_versions()) == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_files_satisfy_the_standards_json_schema(name: str) -> None:
    schema = json.loads((importlib.resources.files("open_data_contract_standard") / "schema.json").read_text())
    document = yaml.safe_load((data_contracts() / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["id"] == f"recdistill.{name}" and document["schema"][0]["name"] == name
    assert document["apiVersion"].startswith("v3.0.") and document["kind"] == "DataContract"
    assert all(p["description"] for p in document["schema"][0]["properties"])


@pytest.mark.parametrize("name", TABLES)
def test_every_type_and_rule_is_known_to_the_code(name: str) -> None:
    contract = load_contract(name)
    samples = {"string": pa.array(["x"]), "number": pa.array([1.0], pa.float32()), "list": pa.array([[1.0]])}
    samples["time"] = pa.array([0], pa.timestamp("us", "UTC"))
    for column in contract.columns:
        column.accepts(pa.int64())  # an unknown spelling raises
        for rule in column.rules:
            if rule.name == "constant_width":
                continue
            kind = {"not_before": "time", "not_in_future": "time", "finite": "number", "not_empty_lists": "list"}
            sample = samples[kind.get(rule.name, "string")]
            latest = pa.scalar(0, pa.timestamp("us", "UTC")).as_py()
            assert len(broken_by(rule.name, rule.arguments, sample, latest=latest, known={})) == 1
    assert all(rule.name in ("not_empty", "exactly_one") for rule in contract.rules)


def test_conventions() -> None:
    items = load_contract("items")
    by_name = {column.name: column for column in items.columns}
    assert items.primary_key == (names.ITEM_ID,)
    assert by_name[names.TEXT_PREFIX].prefix and not by_name[names.ITEM_ID].prefix
    assert by_name[names.IMAGES].optional and not by_name[names.IMAGES].prefix
    found = [name for _, name in items.present(["item_id", "text_title", "tags_genre", "other"])]
    assert found == ["item_id", "text_title", "tags_genre"]
    assert [c.name for c in items.missing(["text_title"])] == ["item_id"]
    assert by_name[names.ITEM_ID].accepts(pa.int64()) and by_name[names.ITEM_ID].accepts(pa.large_string())
    assert not by_name[names.ITEM_ID].accepts(pa.float64())
    assert load_contract("metric_records").primary_key == (
        names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC, names.SEED, names.FOLD, names.UNIT,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 4), pa.large_list(pa.float32())])
def test_lists_of_any_form_are_lists(kind: pa.DataType) -> None:
    embedding = {c.name: c for c in load_contract("item_embeddings").columns}[names.EMBEDDING]
    assert embedding.accepts(kind)
    assert not embedding.accepts(pa.list_(pa.string())) and not embedding.accepts(pa.float32())


def test_an_unknown_contract_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'interactions'"):
        load_contract("interaction")
