"""Teachers without steps: iALS, EASE's vectors, and several teachers as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.ease import ease_weights_of_gram
from recdistill.teachers import TeachersConfig, teach
from recdistill.teachers.config import EaseTeacherConfig, FusionConfig, IalsConfig
from recdistill.teachers.ease import ease_vectors
from recdistill.teachers.fusion import fuse
from recdistill.teachers.ials import ials_vectors, interactions
from recdistill.teachers.positives import Positives

Purity = Callable[[np.ndarray, pd.Index], float]


def test_ials_puts_an_audience_together(planted: Positives, purity: Purity) -> None:
    fitted = [ials_vectors(planted, dim=8, alpha=10, l2=1, iterations=10, seed=0) for _ in range(2)]
    assert np.array_equal(*fitted)
    liked = planted.support.numpy() > 0
    assert purity(fitted[0][liked], planted.item_ids[liked]) > 0.95
    assert not fitted[0][~liked].any()  # "x" was met and never liked


def test_ease_vectors_say_what_ease_says(planted: Positives) -> None:
    """At full width E·Eᵀ is the positive part of (B + Bᵀ) / 2; B is the closed form itself."""
    liked = np.flatnonzero(planted.support.numpy() > 0)
    matrix = torch.from_numpy(interactions(planted)[:, liked].toarray())
    weights = ease_weights_of_gram(matrix.T @ matrix, l2=5.0).double()
    symmetric = (weights + weights.T) / 2
    values, directions = torch.linalg.eigh(symmetric)
    expected = (directions * values.clamp(min=0)) @ directions.T
    vectors = ease_vectors(planted, dim=len(liked), l2=5.0, max_items=100)
    found = vectors[liked] @ vectors[liked].T
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    assert not np.delete(vectors, liked, axis=0).any()
    narrow = ease_vectors(planted, dim=4, l2=5.0, max_items=100)
    assert np.allclose(narrow[liked], vectors[liked][:, :4], atol=1e-6)  # leading directions first
    with pytest.raises(UserError, match="more than max_items"):
        ease_vectors(planted, dim=4, l2=5.0, max_items=10)


def test_fusion_by_hand() -> None:
    """Two one-wide teachers that agree: one direction carries all, each item's sign is kept."""
    first = EmbeddingTable(pd.Index(["a", "b"]), np.array([[1.0], [-1.0]], np.float32), metadata={"geometry": "dot"})
    second = EmbeddingTable(pd.Index(["b", "a"]), np.array([[-3.0], [5.0]], np.float32), metadata={"geometry": "dot"})
    fused = fuse([first, second], dim=2)
    # Centred and of unit mean length both are (1, −1); joined rows (1, 1) and (−1, −1): one component, ±√2,
    # of variance 2, divided by 2^(1/4).
    assert fused.ids.tolist() == ["a", "b"]
    assert np.abs(fused.vectors).ravel().tolist() == pytest.approx([2**0.25] * 2)
    assert fused.vectors[0, 0] == pytest.approx(-fused.vectors[1, 0])


def test_fusion_keeps_what_either_teacher_knows() -> None:
    """One teacher tells topics apart, the other years; the fused space tells both, and items of one alone stay."""
    rng = np.random.default_rng(0)
    topic, year = np.arange(60) % 2, np.arange(60) // 30
    ids = pd.Index([f"i{row:02d}" for row in range(60)])
    noise = rng.normal(0, 0.1, (2, 60, 4))
    tables = [
        EmbeddingTable(
            ids[:50],
            (np.eye(4)[of] + noise[at])[:50].astype(np.float32),
            np.full(50, 3 + at),
            np.full(50, 0.5, np.float32),
            {"geometry": "cosine"},
        )
        for at, of in enumerate((topic, year))
    ]
    tables[1] = EmbeddingTable(
        ids[10:], (np.eye(4)[year] + noise[1])[10:].astype(np.float32), np.full(50, 4), np.full(50, 0.5, np.float32)
    )
    fused = fuse(tables, dim=4)
    assert fused.ids.tolist() == ids.tolist()
    unit = fused.vectors / np.linalg.norm(fused.vectors, axis=1, keepdims=True)
    both = np.arange(10, 50)
    near = both[np.argsort(-(unit[both] @ unit[both].T), axis=1)[:, 1:6]]
    assert (topic[near] == topic[both][:, None]).mean() > 0.9
    assert (year[near] == year[both][:, None]).mean() > 0.9
    assert fused.support is not None and fused.support[[0, 20, 59]].tolist() == [3, 4, 4]
    assert fused.confidence is not None and fused.confidence[[0, 20, 59]].tolist() == [0.25, 0.5, 0.25]


def test_the_stage_writes_them_all_beside_each_other(fold: Fold, tmp_path: Path) -> None:
    config = TeachersConfig(
        id=None,
        sequence=None,
        ials=IalsConfig(dim=8),
        ease=EaseTeacherConfig(dim=8),
        fusion=FusionConfig(of=("ials_teacher", "ease_teacher"), dim=8),
    )

    def run() -> None:
        questions = QuestionsConfig(min_history=1)
        teach(
            config,
            questions,
            fold=fold,
            items=fold.root / "items.parquet",
            out=tmp_path,
            seed=0,
            key="k",
            log=lambda name: lambda metrics, step: None,
        )

    run()
    report = json.loads((tmp_path / "teachers.json").read_text())["teachers"]
    assert set(report) == {"ials_teacher", "ease_teacher", "fusion_teacher"}
    # A quarter of the vocabulary is each target's circle's rest; popularity finds little.
    assert all(part["beats_popularity"] for part in report.values())
    written = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    assert len(written) == 6
    for path in written:
        table = EmbeddingTable.read(path)
        assert "x" not in table.ids and table.confidence is not None and table.support is not None
    run()
    assert all(path.read_bytes() == content for path, content in written.items())


def test_fusion_of_a_teacher_that_is_not_made_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"fusion\.of names ease_teacher"):
        TeachersConfig(fusion=FusionConfig(of=("id_teacher", "ease_teacher")))
