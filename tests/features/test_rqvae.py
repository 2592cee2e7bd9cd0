"""Semantic IDs by RQ-VAE: planted clusters, no collapse, the same codes again, as the quantiser itself codes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_space import mean_direction, planted_space
from sklearn.metrics import normalized_mutual_info_score

from recdistill.errors import UserError
from recdistill.features import semantic_ids as sid
from recdistill.features.config import RqVaeConfig, SemanticIdConfig
from recdistill.features.semantic_ids.autoencoder import Autoencoder
from recdistill.features.semantic_ids.rqvae import off_earlier

SHORT = RqVaeConfig(hidden=(32,), latent=8, steps=120, batch=128, learning_rate=5e-3)
# Clusters in clusters add up: a linear encoder can keep them apart, in few steps.
LINEAR = RqVaeConfig(hidden=(), latent=6, steps=300, batch=128, learning_rate=5e-3, commitment=0.1)


def _fit(sizes=(4, 3), *, by=LINEAR, start=None, of=None) -> sid.Codebooks:
    pytest.importorskip("vector_quantize_pytorch", reason="the extra 'rqvae' is not installed")
    ids, vectors, _ = of or planted_space()
    config = SemanticIdConfig(method="rqvae", sizes=sizes, rqvae=by)
    return sid.fit_codebooks(config, ids, vectors, mean=mean_direction(vectors), seed=0, start=start)


@pytest.fixture(scope="module")
def books() -> sid.Codebooks:
    """Of the planted space."""
    return _fit()


def _mixture(n: int = 800, width: int = 16) -> tuple[pd.Index, np.ndarray, None]:
    """Thirty clusters of uneven size that run into each other."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(30))
    vectors = rng.standard_normal((30, width))[rng.choice(30, n, p=share)] + 0.5 * rng.standard_normal((n, width))
    return pd.Index(range(n)), vectors.astype(np.float32), None


def test_levels_find_clusters_in_clusters_and_decode_to_them(books: sid.Codebooks) -> None:
    ids, vectors, truth = planted_space()
    codes = books.encode(vectors)
    assert normalized_mutual_info_score(truth // 3, codes[:, 0]) > 0.95
    assert normalized_mutual_info_score(truth, books.buckets(codes)[:, 1]) > 0.9
    found = sid.quality(books, ids, vectors, codes, tags={}, seed=0)
    assert found["cosine"] > 0.95


def test_no_codebook_collapses() -> None:
    of = _mixture()
    found = sid.quality(books := _fit((16, 16), by=SHORT, of=of), of[0], of[1], books.encode(of[1]), tags={}, seed=0)
    assert min(found["usage"]) >= 0.9
    assert min(found["perplexity"]) > 10


def test_a_step_takes_no_more_items_than_there_are() -> None:
    few = planted_space()[0].size
    short = {"hidden": (), "latent": 4, "steps": 20}
    exact, more = (_fit(by=RqVaeConfig(**short, batch=batch)) for batch in (few, 50 * few))
    for one, other in zip(exact.levels, more.levels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_codes_do_not_depend_on_run_row_order_threads_or_what_was_drawn_before() -> None:
    ids, vectors, _ = _mixture()
    order = np.random.default_rng(1).permutation(len(ids))
    mean = np.zeros(vectors.shape[1], np.float32)
    config = SemanticIdConfig(method="rqvae", sizes=(8, 8), rqvae=SHORT)
    pytest.importorskip("vector_quantize_pytorch", reason="the extra 'rqvae' is not installed")
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = sid.fit_codebooks(config, ids, vectors, mean=mean, seed=0)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    try:
        torch.set_num_threads(threads + 1)
        torch.rand(7)
        again = sid.fit_codebooks(config, ids[order], vectors[order], mean=mean, seed=0)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(first.levels, again.levels, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.encode(vectors)[order], again.encode(vectors[order]))


def test_new_items_get_codes_from_the_saved_file_alone(
    books: sid.Codebooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, vectors, _ = planted_space()
    books.save(tmp_path / "books.safetensors")
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)  # who serves need not have it
    loaded = sid.Codebooks.load(tmp_path / "books.safetensors")
    np.testing.assert_array_equal(loaded.encode(vectors), books.encode(vectors))
    np.testing.assert_array_equal(loaded.encode(1.01 * vectors[:5]), books.encode(vectors[:5]))
    np.testing.assert_allclose(loaded.decode(np.array([[1, 2]])), books.decode(np.array([[1, 2]])))


def test_codes_are_those_of_the_quantiser_itself() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="the extra 'rqvae' is not installed")
    _, vectors, _ = _mixture()
    books = _fit((8, 4), by=SHORT, of=_mixture())
    quantizer = library.ResidualVQ(dim=SHORT.latent, codebook_size=books.sizes).eval()
    for layer, level in zip(quantizer.layers, books.levels, strict=True):
        layer.codebook = torch.from_numpy(level)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) - books.mean
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert books.autoencoder is not None
    latents = torch.from_numpy(books.autoencoder.encode(units))
    stood, codes, _ = quantizer(latents[None])
    np.testing.assert_array_equal(books.encode(vectors), codes[0].numpy())
    decoded = books.autoencoder.decode(stood[0].detach().numpy())
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    np.testing.assert_allclose(books.decode(codes[0].numpy()), decoded, atol=1e-5)


def test_continued_codes_go_on_meaning_the_same(books: sid.Codebooks) -> None:
    ids, vectors, truth = planted_space()
    lot = np.random.default_rng(5)
    names = [lot.permutation(size) for size in (4, 3)]
    before = np.stack([names[at][level] for at, level in enumerate(books.encode(vectors).T)], axis=1)
    turned = (vectors @ np.linalg.qr(lot.standard_normal((8, 8)))[0]).astype(np.float32)
    start, new = before.copy(), lot.permutation(len(ids))[:40]
    start[new] = -1
    codes = _fit(start=start, of=(ids, turned, truth)).encode(turned)
    assert sid.kept(start, codes)["whole"] > 0.9
    assert (codes[new] == before[new]).all(axis=1).mean() > 0.8


def test_distance_from_earlier_codes_by_hand() -> None:
    books = (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    latents = torch.tensor([[1.0, 2.0], [5.0, 5.0], [0.0, 1.0]], requires_grad=True)
    codes = torch.tensor([[0, 1], [-1, -1], [1, 0]])
    # Of the first item (0, 2) is left, and then (−1, 1): 4 + 2. The second had no code, the third stands on its own.
    away = off_earlier(latents, codes, books)
    assert away.item() == pytest.approx(6 / 3)
    away.backward()
    assert latents.grad is not None and latents.grad[1:].abs().sum() == 0


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    ids, vectors, _ = planted_space(24)
    config = SemanticIdConfig(method="rqvae", sizes=(4,), rqvae=SHORT)
    with pytest.raises(UserError, match=r"recdistill\[rqvae\]"):
        sid.fit_codebooks(config, ids, vectors, mean=mean_direction(vectors), seed=0)


def test_an_autoencoder_of_many_layers_comes_back_from_its_tensors() -> None:
    torch.manual_seed(0)
    made = Autoencoder(width=5, hidden=(7, 6, 4, 4, 3, 3), latent=2)  # layers 0 to 12, which do not sort as words
    again = Autoencoder.of(dict(sorted(made.tensors().items())))
    vectors = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    np.testing.assert_array_equal(again.encode(vectors), made.encode(vectors))
    np.testing.assert_array_equal(again.decode(again.encode(vectors)), made.decode(made.encode(vectors)))
