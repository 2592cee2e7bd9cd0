"""Popularity as a level: predicted from content for new items; simulated new items in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from topical_world import TopicalWorld

from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.popularity import log_popularity
from recdistill.features.content_level import ContentLevel


def test_content_tells_the_popularity_of_new_items() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(size=(400, 5))
    planted = 3 + content @ np.array([1.0, -0.5, 0.0, 0.0, 0.3])
    support = np.round(np.expm1(np.maximum(planted, 0.7)) + 1).astype(int)
    known = np.arange(400) < 300
    found = log_popularity(np.where(known, support, 0), content)
    truth = np.log1p(support)
    centre = truth[known].mean()
    np.testing.assert_allclose(found[known], truth[known] - centre)
    assert np.corrcoef(found[~known], truth[~known])[0, 1] > 0.95
    assert np.abs(found[~known] - (truth[~known] - centre)).mean() < 0.3


def test_an_item_that_is_yet_to_come_gets_what_a_new_one_of_the_table_has(
    world_with_new: TopicalWorld, tmp_path: Path
) -> None:
    told = world_with_new.distill(tmp_path, {"popularity": 0.5, "log_q": 0.0}, steps=5)
    assert told["student"]["chosen"]["popularity"] == 0.5
    for fit in ("selection", "final"):
        table = EmbeddingTable.read(tmp_path / fit / "student.parquet")
        log = world_with_new.fold.training(fit)
        new = ~np.isin(np.arange(len(table.ids)), log.item[log.positive()])
        predicted = ContentLevel.load(tmp_path / fit / "student_level.safetensors")(table.vectors)
        assert table.level is not None and np.abs(table.level[~new] - predicted[~new]).max() > 0.01
        np.testing.assert_allclose(table.level[new], predicted[new], atol=1e-5)
        assert fit == "final" or new.sum() == 20
    assert not (tmp_path / "final" / "content_student_level.safetensors").exists()


def test_where_everything_or_nothing_is_known() -> None:
    content = np.ones((3, 2))
    assert log_popularity(np.array([1, 1, 3]), content) == pytest.approx(np.log([2, 2, 4]) - np.log([2, 2, 4]).mean())
    assert log_popularity(np.zeros(3, int), content).tolist() == [0.0, 0.0, 0.0]
