"""Content-aware training with tuned towers: pictures and texts run through them, queries that are no items too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny_world import World as Catalogue

from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import SUBJECT
from recdistill.pretrain.stage import pretrain
from recdistill.pretrain.texts import with_texts
from recdistill.students import RecDistillStudent, StudentConfig, build_student, feature_source
from recdistill.students.live import LiveFeatures
from recdistill.students.raw import RawUnits

TUNING = {"text": "lora", "image": "full"}
QUERIES = ["love story", "war night", "city ghost", "king house"]


def settings(**other: Any) -> StudentConfig:
    return StudentConfig.model_validate(
        {"skip": None, "dim": 8, "prefixes": (), "tuning": TUNING, "lora_rank": 2, **other}
    )


def run(catalogue: Catalogue, folder: Path, out: Path, **phase: Any) -> None:
    ids, rng = catalogue.ids, np.random.default_rng(0)
    roles = pa.table({"item_id": pa.array(ids), "role": pa.array(["warm"] * len(ids))})
    write_table(roles, folder / "split" / "time" / "items.parquet")
    for fit in FITS:
        target = [ids[row] for row in rng.integers(0, len(ids), 40)]
        table = {
            "query_item_id": pa.nulls(40, pa.string()),
            "query_text": pa.array([QUERIES[at % 4] for at in range(40)]),
            "target_item_id": pa.array(target),
            "target_text": pa.nulls(40, pa.string()),
            "score": pa.nulls(40, pa.float32()),
        }
        write_table(pa.table(table), folder / "pairs" / fit / "searches.parquet", metadata={"graded": False})
    given = {"name": "only", "steps": 4, "weights": {"nce": 1, "micl": 0.1}, **phase}
    config = PretrainConfig.model_validate({"phases": [given], "batch_size": 8, "validate_every": 4})
    pretrain(
        config,
        settings(),
        fold=Fold(folder / "split" / "time"),
        data=catalogue.data,
        content=catalogue.content,
        pairs=folder / "pairs",
        out=out,
        cache=folder / "cache",
        seed=0,
        key="key",
        log=lambda name: lambda metrics, step: None,
    )


def test_towers_are_trained_on_queries_and_items(catalogue: Catalogue, tmp_path: Path) -> None:
    run(catalogue, tmp_path, tmp_path / "out")
    found = RecDistillStudent.from_pretrained(tmp_path / "out" / "final" / SUBJECT)
    fresh = build_student(settings(), content=catalogue.content, seed=0).state_dict()
    moved = {name.split(".")[2] for name, value in found.state_dict().items() if not torch.equal(value, fresh[name])}
    assert {"text", "image"} <= moved
    table = EmbeddingTable.read(tmp_path / "out" / "final" / f"{SUBJECT}.parquet")
    np.testing.assert_allclose(found.encode(catalogue.given), table.align(pd.Index(catalogue.ids))[0], atol=1e-4)


@pytest.mark.parametrize("how", ["lora", "full"])
def test_texts_stand_behind_the_items_as_the_frozen_tower_would_put_them(
    catalogue: Catalogue, tmp_path: Path, how: str
) -> None:
    config = settings(tuning={"text": how, "image": how})
    student = build_student(config, content=catalogue.content, seed=0).eval()
    frozen = build_student(settings(tuning={}), content=catalogue.content, seed=0).eval()
    ids = pd.Index(catalogue.ids)
    sources = [
        feature_source(of, content=catalogue.content, data=catalogue.data, item_ids=ids)
        for of in (config, settings(tuning={}))
    ]
    both = [
        with_texts(source, QUERIES, of, cache=tmp_path) for source, of in zip(sources, (student, frozen), strict=True)
    ]
    assert len(both[0]) == len(both[1]) == len(ids) + 4
    assert isinstance(both[0], LiveFeatures)
    rows = torch.tensor([len(ids) + 3, 1, len(ids)])
    (features, present), (plain, there) = (source.batch(rows) for source in both)
    assert isinstance(features["text"], RawUnits)
    for modality in plain:
        assert present[modality].tolist() == there[modality].tolist()
    with torch.no_grad():
        torch.testing.assert_close(student(features, present), frozen(plain, there), atol=1e-4, rtol=0)


def test_a_trained_towers_vectors_are_never_cached(catalogue: Catalogue) -> None:
    student = build_student(settings(), content=catalogue.content, seed=0)
    with pytest.raises(ValueError, match="has no name in the cache"):
        _ = student.towers.text.identity
    with pytest.raises(ValueError, match="has no name in the cache"):
        _ = student.towers.image.identity
