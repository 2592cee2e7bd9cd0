"""Semantic IDs: planted clusters, stability, quality figures, tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import normalized_mutual_info_score

from recdistill.errors import UserError
from recdistill.features import semantic_ids as sid


def _planted(n: int = 240, *, seed: int = 0) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Four far clusters, each of three near ones."""
    rng = np.random.default_rng(seed)
    coarse = np.repeat(np.arange(4), n // 4)
    fine = np.arange(n) % 3
    centres = 10 * np.eye(4, 8)[coarse] + 2 * np.eye(3, 8, k=5)[fine]
    vectors = centres + 0.05 * rng.standard_normal((n, 8))
    return pd.Index([f"i{at:03d}" for at in range(n)]), vectors.astype(np.float32), coarse * 3 + fine


def test_levels_find_the_planted_clusters() -> None:
    ids, vectors, truth = _planted()
    books = sid.fit_codebooks(ids, vectors, mean=vectors.mean(axis=0), sizes=(4, 3), seed=0)
    codes = books.encode(vectors)
    assert normalized_mutual_info_score(truth // 3, codes[:, 0]) == pytest.approx(1.0)
    whole = sid.prefixes(codes, sizes=books.sizes)[:, -1]
    assert normalized_mutual_info_score(truth, whole) > 0.95


def test_codes_do_not_depend_on_row_order_or_run() -> None:
    ids, vectors, _ = _planted()
    mean = vectors.mean(axis=0)
    first = sid.fit_codebooks(ids, vectors, mean=mean, sizes=(8, 4), seed=3)
    order = np.random.default_rng(1).permutation(len(ids))
    again = sid.fit_codebooks(ids[order], vectors[order], mean=mean, sizes=(8, 4), seed=3)
    for one, other in zip(first.levels, again.levels, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.encode(vectors)[order], again.encode(vectors[order]))


def test_numbering_keeps_its_order_when_the_start_differs() -> None:
    ids, vectors, _ = _planted()
    codes = [
        sid.fit_codebooks(ids, vectors, mean=vectors.mean(axis=0), sizes=(4,), seed=seed).encode(vectors)
        for seed in range(6)
    ]
    for other in codes[1:]:
        np.testing.assert_array_equal(codes[0], other)


def test_new_items_get_the_nearest_code_after_saving_and_loading(tmp_path: Path) -> None:
    ids, vectors, _ = _planted()
    books = sid.fit_codebooks(ids, vectors, mean=vectors.mean(axis=0), sizes=(4, 3), seed=0)
    books.save(tmp_path / "books.safetensors")
    loaded = sid.Codebooks.load(tmp_path / "books.safetensors")
    np.testing.assert_array_equal(loaded.encode(1.02 * vectors[:5] + 0.001), books.encode(vectors[:5]))
    with pytest.raises(UserError, match="3 wide, the codebook 8"):
        loaded.encode(np.ones((2, 3), dtype=np.float32))


def test_quality_by_hand() -> None:
    codes = np.array([[0, 0], [0, 0], [0, 1], [2, 1]], dtype=np.int32)
    figures = sid.quality(codes, sizes=(4, 2))
    assert figures["items"] == 4
    assert figures["distinct"] == 3
    assert figures["collision_rate"] == pytest.approx(0.5)
    assert figures["largest_bucket"] == 2
    assert figures["usage"] == [0.5, 1.0]
    assert figures["perplexity"] == pytest.approx([np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))), 2.0])


def test_prefixes_tell_equal_codes_under_other_parents_apart() -> None:
    codes = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.int32)
    assert sid.prefixes(codes, sizes=(2, 3)).tolist() == [[0, 1], [1, 4], [1, 3]]


def test_tables() -> None:
    ids, codes = pd.Index(["x", "y", "z"]), np.array([[1, 0], [0, 2], [1, 0]], dtype=np.int32)
    assert sid.to_table(ids, codes).to_pydict() == {
        "item_id": ["x", "y", "z"],
        "codes": [[1, 0], [0, 2], [1, 0]],
        "semantic_id": ["1-0", "0-2", "1-0"],
    }
    assert sid.to_items_table(ids, codes).to_pydict() == {
        "semantic_id": ["0-2", "1-0"],
        "codes": [[0, 2], [1, 0]],
        "item_ids": [["y"], ["x", "z"]],
    }


def test_more_codes_than_items() -> None:
    ids, vectors = pd.Index([1, 2, 3]), np.eye(3, dtype=np.float32)
    books = sid.fit_codebooks(ids, vectors, mean=np.zeros(3, dtype=np.float32), sizes=(8, 8), seed=0)
    assert books.sizes == (3, 3)
    assert sid.quality(books.encode(vectors), sizes=books.sizes)["collision_rate"] == 0
