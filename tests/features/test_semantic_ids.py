"""Semantic IDs by k-means: planted clusters, stability, new items, saved files, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from planted_space import planted_space
from pydantic import ValidationError
from safetensors.numpy import save_file
from sklearn.metrics import normalized_mutual_info_score

from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.features import semantic_ids as sid
from recdistill.features.config import SemanticIdConfig
from recdistill.features.semantic_ids.levels import means_by_code

KMEANS = ("kmeans", "residual_kmeans")


def _fit(method="residual_kmeans", sizes=(4, 3), *, seed=0, start=None, of=None) -> sid.Codebooks:
    ids, vectors, _ = of or planted_space()
    config = SemanticIdConfig(method=method, sizes=sizes)
    return sid.fit_codebooks(config, ids, vectors, mean=vectors.mean(axis=0), seed=seed, start=start)


def test_residual_levels_find_clusters_in_clusters() -> None:
    _, vectors, truth = planted_space()
    books = _fit()
    buckets = books.buckets(books.encode(vectors))
    assert normalized_mutual_info_score(truth // 3, buckets[:, 0]) == pytest.approx(1.0)
    assert normalized_mutual_info_score(truth, buckets[:, 1]) > 0.95


def test_levels_of_flat_kmeans_each_find_the_clusters_of_their_size() -> None:
    _, vectors, truth = planted_space()
    books = _fit("kmeans", (4, 12))
    codes = books.encode(vectors)
    assert normalized_mutual_info_score(truth // 3, codes[:, 0]) == pytest.approx(1.0)
    assert normalized_mutual_info_score(truth, codes[:, 1]) == pytest.approx(1.0)
    np.testing.assert_array_equal(books.buckets(codes), codes)
    alone = _fit("kmeans", (12,), seed=1)  # the second level draws with the second seed, and knows of no first
    np.testing.assert_array_equal(alone.levels[0], books.levels[1])


@pytest.mark.parametrize("method", KMEANS)
def test_codes_do_not_depend_on_row_order_or_run(method: str) -> None:
    ids, vectors, truth = planted_space()
    order = np.random.default_rng(1).permutation(len(ids))
    first, again = _fit(method, (8, 4), seed=3), _fit(method, (8, 4), seed=3, of=(ids[order], vectors[order], truth))
    mean = vectors.mean(axis=0)
    for one, other in zip(first.levels, again.levels, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)  # the means of the rows may differ in the last digit
    again = sid.Codebooks(mean, again.levels, again.residual)
    np.testing.assert_array_equal(first.encode(vectors)[order], again.encode(vectors[order]))


def test_numbering_keeps_its_order_when_the_start_differs() -> None:
    _, vectors, _ = planted_space()
    codes = [_fit(sizes=(4,), seed=seed).encode(vectors) for seed in range(6)]
    for other in codes[1:]:
        np.testing.assert_array_equal(codes[0], other)


@pytest.mark.parametrize("method", KMEANS)
def test_new_items_get_the_nearest_code_after_saving_and_loading(tmp_path: Path, method: str) -> None:
    _, vectors, _ = planted_space()
    books = _fit(method)
    books.save(tmp_path / "books.safetensors")
    loaded = sid.Codebooks.load(tmp_path / "books.safetensors")
    assert loaded.residual is (method == "residual_kmeans") and loaded.autoencoder is None
    np.testing.assert_array_equal(loaded.encode(1.02 * vectors[:5] + 0.001), books.encode(vectors[:5]))
    with pytest.raises(UserError, match="3 wide, the codebook 8"):
        loaded.encode(np.ones((2, 3), dtype=np.float32))


def test_codebooks_written_before_there_were_methods_are_residual(tmp_path: Path) -> None:
    level = np.eye(2, dtype=np.float32)
    save_file({"mean": np.zeros(2, np.float32), "level_0": level, "level_1": level}, tmp_path / "old.safetensors")
    books = sid.Codebooks.load(tmp_path / "old.safetensors")
    assert books.residual and books.sizes == (2, 2)


def test_what_is_no_codebook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no codebooks"):
        sid.Codebooks.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no safetensors")
    with pytest.raises(UserError, match="no codebooks"):
        sid.Codebooks.load(tmp_path / "text.safetensors")
    save_file({"weight": np.ones(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="neither a mean nor a level"):
        sid.Codebooks.load(tmp_path / "other.safetensors")


def test_codes_by_hand() -> None:
    """A vector is scaled, centred, coded; a residual level codes what is left, a flat one the vector again."""
    coarse, fine = np.array([[1, 0], [0, 1]], np.float32), np.array([[-0.4, 0.8], [0.6, -0.2], [0.8, 0.6]], np.float32)
    vectors = np.array([[30, 40], [4, 3]], np.float32)  # directions (.6, .8) and (.8, .6)
    residual = sid.Codebooks(np.zeros(2, np.float32), (coarse, fine))
    assert residual.encode(vectors).tolist() == [[1, 1], [0, 0]]  # left over: (.6, −.2) and (−.2, .6)
    assert residual.buckets(residual.encode(vectors)).tolist() == [[1, 4], [0, 0]]
    np.testing.assert_allclose(residual.decode(np.array([[1, 1]])), [[0.6, 0.8]], atol=1e-6)
    flat = sid.Codebooks(np.zeros(2, np.float32), (coarse, fine), residual=False)
    assert flat.encode(vectors).tolist() == [[1, 2], [0, 2]]
    np.testing.assert_allclose(flat.decode(np.array([[1, 2]])), [[0.8, 0.6]], atol=1e-6)


def test_prefixes_tell_equal_codes_under_other_parents_apart() -> None:
    codes = np.array([[0, 1], [1, 1], [1, 0]], dtype=np.int32)
    assert sid.prefixes(codes, sizes=(2, 3)).tolist() == [[0, 1], [1, 4], [1, 3]]


def test_more_codes_than_items() -> None:
    ids, vectors = pd.Index([1, 2, 3]), np.eye(3, dtype=np.float32)
    books = _fit(sizes=(8, 8), of=(ids, vectors, None))
    assert books.sizes == (3, 3)
    assert len(np.unique(books.encode(vectors), axis=0)) == 3


def test_more_ids_than_can_be_numbered_are_refused() -> None:
    assert SemanticIdConfig(sizes=(256,) * 7).sizes == (256,) * 7
    with pytest.raises(ValidationError, match="more IDs than 64 bits can number"):
        SemanticIdConfig(sizes=(256,) * 8)


@pytest.mark.parametrize("method", KMEANS)
def test_continued_codes_go_on_meaning_the_same_in_a_turned_space(method: str) -> None:
    """Another student's vectors: turned, noised, of a catalogue that grew. Codes stay; fitted anew they do not."""
    ids, vectors, truth = planted_space()
    sizes = (4, 3) if method == "residual_kmeans" else (4, 12)
    lot = np.random.default_rng(5)
    names = [lot.permutation(size) for size in sizes]  # numbers that no fit would give by itself
    before = np.stack([names[at][level] for at, level in enumerate(_fit(method, sizes).encode(vectors).T)], axis=1)
    turn = np.linalg.qr(lot.standard_normal((8, 8)))[0]
    turned = (vectors @ turn + 0.02 * lot.standard_normal(vectors.shape)).astype(np.float32)
    new = lot.permutation(len(ids))[:40]
    start = before.copy()
    start[new] = -1
    codes = _fit(method, sizes, start=start, of=(ids, turned, truth)).encode(turned)
    stayed = sid.kept(start, codes)
    assert stayed["items"] == len(ids) - 40 and stayed["whole"] > 0.97
    assert (codes[new] == before[new]).all(axis=1).mean() > 0.9  # a new item has the codes of those it is alike
    anew = _fit(method, sizes, of=(ids, turned, truth)).encode(turned)
    assert sid.kept(start, anew)["whole"] < 0.5


def test_a_code_that_no_item_has_any_more_goes_where_nothing_is_near() -> None:
    vectors = np.array([[0, 0], [0, 2.6], [1, 1], [9, 9], [5, 5]], np.float32)
    centroids, counts = means_by_code(vectors, np.array([2, 2, 2, -1, -1]), size=4)
    assert counts.tolist() == [0, 0, 3, 0]
    np.testing.assert_allclose(centroids, [[9, 9], [5, 5], [1 / 3, 1.2], [0, 2.6]], atol=1e-6)


def test_earlier_ids_that_do_not_fit_are_refused() -> None:
    start = np.zeros((240, 2), np.int32)
    with pytest.raises(UserError, match="2 levels, the codebooks 3"):
        _fit(sizes=(4, 3, 2), start=start)
    with pytest.raises(UserError, match="none of the items"):
        _fit(start=start - 1)
    start[7, 1] = 3
    with pytest.raises(UserError, match="a code 3 at level 2, where the codebook has 3 codes"):
        _fit(start=start)


def test_tables(tmp_path: Path) -> None:
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
    write_table(sid.to_table(ids, codes), tmp_path / "ids.parquet")
    found = sid.read_codes(tmp_path / "ids.parquet", pd.Index(["z", "new", "y"]), method="kmeans")
    assert found.tolist() == [[1, 0], [-1, -1], [0, 2]]


def test_codes_of_another_method_are_not_continued(tmp_path: Path) -> None:
    table = sid.to_table(pd.Index(["x"]), np.zeros((1, 2), dtype=np.int32))
    write_table(table, tmp_path / "ids.parquet", metadata={"method": "kmeans"})
    assert sid.read_codes(tmp_path / "ids.parquet", pd.Index(["x"]), method="kmeans").tolist() == [[0, 0]]
    with pytest.raises(UserError, match="by kmeans cannot be continued by rqvae") as caught:
        sid.read_codes(tmp_path / "ids.parquet", pd.Index(["x"]), method="rqvae")
    assert "export.semantic_ids.method=kmeans" in caught.value.remedy


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item_id": ["x"]}, "no column codes"),
        ({"item_id": ["x", "y"], "codes": [[1], [1, 2]]}, "codes of several lengths"),
        ({"item_id": ["x", "y"], "codes": pa.array([[], []], pa.list_(pa.int32()))}, "codes of several lengths"),
        ({"item_id": ["x", "x"], "codes": [[1], [2]]}, "item ids repeat"),
        ({"item_id": ["x", "y"], "codes": [[1, 2], [1, None]]}, "1 item ids or codes are null"),
        ({"item_id": ["x", "y"], "codes": [[1, 2], None]}, "1 item ids or codes are null"),
        ({"item_id": [7, None], "codes": [[1], [2]]}, "1 item ids or codes are null"),
        ({"item_id": ["x"], "codes": ["1-2"]}, "codes are string, no lists"),
    ],
)
def test_a_table_that_holds_no_ids_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    write_table(pa.table(columns), tmp_path / "ids.parquet")
    with pytest.raises(UserError, match=said):
        sid.read_codes(tmp_path / "ids.parquet", pd.Index(["x"]), method="kmeans")
