"""Figures of semantic IDs, by hand and against the plain way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_space import planted_space
from sklearn.metrics import normalized_mutual_info_score

from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.features import semantic_ids as sid
from recdistill.features.config import SemanticIdConfig
from recdistill.features.semantic_ids.neighbours import nearest_items, overlap, shared, shared_by_chance
from recdistill.features.semantic_ids.tags import agreement
from recdistill.features.semantic_ids.usage import collisions, kept, perplexity, usage

CODES = np.array([[0, 0], [0, 0], [0, 1], [2, 1]], dtype=np.int32)


def test_collisions_usage_and_perplexity_by_hand() -> None:
    assert collisions(CODES) == {"items": 4, "distinct": 3, "collision_rate": 0.5, "largest_bucket": 2}
    assert usage(CODES, sizes=(4, 2)) == [0.5, 1.0]
    assert perplexity(CODES) == pytest.approx([np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))), 2.0])


def test_kept_by_hand() -> None:
    before = np.array([[0, 0], [-1, -1], [0, 0], [2, 1]])
    stayed = kept(before, CODES)
    assert stayed["items"] == 3  # whole: rows 0 and 3; the third item keeps its first code alone
    assert (stayed["whole"], stayed["levels"]) == (pytest.approx(2 / 3), pytest.approx([1.0, 2 / 3]))


def test_neighbours_inside_by_hand() -> None:
    angles = np.deg2rad([0, 10, 25, 180])
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = np.array([1, 3])
    found = np.sort(nearest_items(units, asked, k=2), axis=1)
    assert found.tolist() == [[0, 2], [1, 2]]
    buckets = np.array([[0, 0], [0, 0], [0, 1], [2, 5]])
    assert shared(buckets, asked, found) == [0.5, 0.25]  # of item 1 both and one, of item 3 none
    assert shared_by_chance(buckets) == pytest.approx([6 / 12, 2 / 12])


def test_overlap_by_hand() -> None:
    """Items 0, 1 and 2 stand in one place, 3 in the next: each of a bucket too large counts by its chance."""
    level = np.array([[1, 0], [0.8, 0.6], [-1, 0]], np.float32)
    books = sid.Codebooks(np.zeros(2, np.float32), (level,))
    codes = np.array([[0], [0], [0], [1], [2]], np.int32)
    # Item 0's two nearest by codes are 1 and 2; true neighbours were 1 and 3.
    assert overlap(books, codes, np.array([0]), np.array([[1, 3]])) == 0.5
    # Item 3 stands alone: two of 0, 1, 2 are drawn. True neighbours were 0 and 4.
    assert overlap(books, codes, np.array([3]), np.array([[0, 4]])) == pytest.approx((2 / 3 + 0) / 2)
    # One of item 0's bucket-mates is drawn.
    assert overlap(books, codes, np.array([0]), np.array([[1]])) == 0.5


def test_the_overlap_of_one_bucket_is_chance_and_that_of_exact_codes_whole() -> None:
    rng = np.random.default_rng(0)
    units = rng.standard_normal((30, 4)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    asked = np.arange(30)
    neighbours = nearest_items(units, asked, k=5)
    none = np.zeros(4, np.float32)
    alike = sid.Codebooks(none, (units[:1],))
    assert overlap(alike, np.zeros((30, 1), np.int32), asked, neighbours) == pytest.approx(5 / 29)
    exact = sid.Codebooks(none, (units,))
    assert overlap(exact, exact.encode(units), asked, neighbours) == pytest.approx(1.0)


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_overlap_equals_ranking_every_item_with_ties_drawn(seed: int, codes: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    level = rng.standard_normal((codes, 3)).astype(np.float32)
    books = sid.Codebooks(np.zeros(3, np.float32), (level,))
    code = rng.integers(0, codes, (12, 1)).astype(np.int32)
    neighbours = np.stack([rng.permutation(np.delete(np.arange(12), at))[:k] for at in range(12)])
    stood = (level / np.linalg.norm(level, axis=1, keepdims=True)).astype(np.float64)
    expected = 0.0
    for at in range(12):
        others = np.delete(np.arange(12), at)
        score = (stood @ stood[code[at, 0]]).round(6)[code[others, 0]]
        for neighbour in neighbours[at]:
            mine = score[others == neighbour][0]
            above, equal = (score > mine).sum(), (score == mine).sum()
            expected += min(max((k - above) / equal, 0), 1)
    assert overlap(books, code, np.arange(12), neighbours) == pytest.approx(expected / (12 * k), abs=1e-5)


def test_agreement_with_one_tag_an_item_is_nmi_and_above_chance() -> None:
    rng = np.random.default_rng(0)
    tags = rng.integers(0, 4, 400)
    buckets = np.stack([tags, rng.integers(0, 40, 400)], axis=1)
    found = agreement(buckets, (np.arange(400), tags), seed=0)
    assert found["nmi"][0] == pytest.approx(1.0)
    assert found["nmi"][1] == pytest.approx(normalized_mutual_info_score(tags, buckets[:, 1]))
    assert found["chance"][0] < 0.05
    assert found["chance"][1] == pytest.approx(found["nmi"][1], abs=0.04)  # buckets by lot are as good as chance


def test_an_item_of_two_tags_counts_for_both() -> None:
    found = agreement(np.array([[0], [1]]), (np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])), seed=0)
    assert found["nmi"] == [pytest.approx(0.0, abs=1e-9)]


def test_tags_are_read_for_the_items_asked_and_names_of_people_left_out(tmp_path: Path) -> None:
    n = 40
    table = pa.table(
        {
            "item_id": [f"i{at}" for at in range(n)],
            "tags_genre": [["a"], None, ["b", None, "a"], []] * (n // 4),
            "tags_people": [[f"p{at}"] for at in range(n)],
            "labels_kind": [["x"]] * n,
            "text_title": ["t"] * n,
        }
    )
    write_table(table, tmp_path / "items.parquet")
    found = sid.tag_pairs(tmp_path / "items.parquet", pd.Index([f"i{at}" for at in reversed(range(n))]))
    assert found.keys() == {"genre", "kind"}
    items, tags = found["genre"]
    assert items[:3].tolist() == [1, 1, 3]  # i38 has b and a, i36 has a
    assert tags[:3].tolist() == [0, 1, 1]
    with pytest.raises(UserError, match="1 of the items are missing"):
        sid.tag_pairs(tmp_path / "items.parquet", pd.Index(["i0", "new"]))


def test_quality_of_a_planted_space() -> None:
    ids, vectors, truth = planted_space()
    config = SemanticIdConfig(sizes=(4, 3))
    books = sid.fit_codebooks(config, ids, vectors, mean=vectors.mean(axis=0), seed=0)
    codes = books.encode(vectors)
    tags = {"cluster": (np.arange(len(ids)), truth)}
    found = sid.quality(books, ids, vectors, codes, tags=tags, seed=0)
    assert found["distinct"] == 12 and found["usage"] == [1.0, 1.0]
    assert found["neighbours"]["k"] == 10
    assert found["neighbours"]["shared"] == pytest.approx([1.0, 1.0])  # ten of the nineteen others of a near cluster
    assert found["neighbours"]["overlap"] == pytest.approx(10 / 19, abs=0.01)
    assert found["cosine"] > 0.99
    assert found["tags"]["cluster"]["nmi"][1] == pytest.approx(1.0)
    order = np.random.default_rng(0).permutation(len(ids))
    again = sid.quality(books, ids[order], vectors[order], codes[order], tags={}, seed=0)
    for figure in ("distinct", "usage", "perplexity"):
        assert again[figure] == pytest.approx(found[figure])
    assert again["cosine"] == pytest.approx(found["cosine"])
    assert again["neighbours"]["overlap"] == pytest.approx(found["neighbours"]["overlap"])


def test_one_item_has_no_neighbours() -> None:
    ids, vectors = pd.Index(["x"]), np.ones((1, 2), np.float32)
    books = sid.Codebooks(np.zeros(2, np.float32), (vectors,))
    found = sid.quality(books, ids, vectors, books.encode(vectors), tags={}, seed=0)
    assert found["collision_rate"] == 0 and "neighbours" not in found
