"""Baselines: closed forms against their formulas, planted relations, fair tuning."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_fold import COLD, Planted, plant

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation.baselines.ease import Ease
from recdistill.evaluation.baselines.ials import Ials
from recdistill.evaluation.baselines.material import Material, centred
from recdistill.evaluation.baselines.regression import KernelRidge, Ridge
from recdistill.evaluation.baselines.simple import RawContent, popularity
from recdistill.evaluation.baselines.tuned import Skipped, make_baseline
from recdistill.evaluation.baselines.tuning import choose, points
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.config import BaselinesConfig, EaseConfig, IalsConfig, Seq2ItemConfig
from recdistill.evaluation.metrics import recall_at_k
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.ease import ease_weights, ease_weights_of_gram


def material(
    interactions: np.ndarray,
    content: np.ndarray,
    *,
    present: np.ndarray | None = None,
    modalities: dict[str, slice] | None = None,
) -> Material:
    """From a dense [U, I] 0/1 matrix."""
    users, items = np.nonzero(interactions)
    ids = pd.Index(np.arange(interactions.shape[1]) + 1)
    ones = np.ones(len(users), dtype=np.int32)
    log = Log(
        pd.Index(range(len(interactions))),
        ids,
        users.astype(np.int32),
        items.astype(np.int32),
        np.arange(len(users)),
        ones,
        ("like",),
        ones.astype(np.float32),
    )
    present = np.ones(len(ids), dtype=bool) if present is None else present
    return Material(ids, centred(content.astype(np.float32), present), present, modalities or {}, log, None, 1)


def steck(matrix: np.ndarray, l2: float) -> np.ndarray:
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_ease_golden() -> None:
    """Two items, one user who likes both: G = [[2, 1], [1, 2]] with λ = 1, so P = [[2, −1], [−1, 2]] / 3, B₁₂ = 1/2."""
    rows = torch.tensor([[1.0, 1.0]])
    for weights in (ease_weights(rows, l2=1.0), ease_weights_of_gram(rows.T @ rows, l2=1.0)):
        assert weights.flatten().tolist() == pytest.approx([0, 0.5, 0.5, 0])


@pytest.mark.parametrize(("users", "items"), [(20, 50), (80, 50)])
@pytest.mark.parametrize("l2", [0.5, 50.0])
def test_ease_both_ways_equal_the_formula(users: int, items: int, l2: float) -> None:
    rng = np.random.default_rng(users)
    matrix = (rng.random((users, items)) < 0.2).astype(np.float64)
    matrix[:, 0] = 0  # never seen
    rows = torch.from_numpy(matrix).float()
    expected = steck(matrix, l2)
    assert np.allclose(ease_weights(rows, l2=l2).numpy(), expected, atol=2e-5)
    assert np.allclose(ease_weights_of_gram(rows.T @ rows, l2=l2).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("users", [12, 90])
def test_ease_with_content_adds_the_kernel(users: int) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.random((users, 30)) < 0.3).astype(np.float64)
    matrix[0], matrix[:, 25:] = 1, 0
    of = material(matrix, rng.normal(size=(30, 5)))
    model = Ease(of, content_width=8).fit(l2=3.0, beta=7.0)
    expected = steck(np.vstack([matrix, np.sqrt(7.0) * of.content.T]), 3.0)
    query = torch.tensor([[2, 4, -1], [27, -1, -1]])
    scores = model.scorer(query).numpy()
    assert np.allclose(scores[0], expected[2] + expected[4], atol=1e-4)
    assert np.allclose(scores[1], expected[27], atol=1e-4)  # a cold item has neighbours through content alone
    assert model.present.all()
    plain = Ease(of).fit(l2=3.0)
    assert plain.present.tolist() == [True] * 25 + [False] * 5
    expected, scores = steck(matrix, 3.0), plain.scorer(query).numpy()
    assert np.allclose(scores[0, :25], (expected[2] + expected[4])[:25], atol=1e-4)
    assert scores[1].tolist() == [0.0] * 30


def test_ease_keeps_the_items_with_most_support() -> None:
    matrix = np.tril(np.ones((6, 6)))
    small = Ease(material(matrix, np.ones((6, 2))), max_items=3)
    assert small.present.tolist() == [True] * 3 + [False] * 3


def test_popularity_counts_users_and_knows_no_cold_item() -> None:
    matrix = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]])
    subject = popularity(material(matrix, np.ones((4, 2))))
    assert subject.scorer(torch.tensor([[1], [-1]])).tolist() == [[3, 2, 1, 0]] * 2
    assert subject.present.tolist() == [True, True, True, False]


def test_raw_content_is_centred() -> None:
    content = np.random.default_rng(0).normal(size=(40, 3)) + 50
    present = np.arange(40) < 30
    subject = RawContent(material(np.ones((2, 40)), content, present=present)).fit({})
    moved = content[:30] - content[:30].mean(axis=0)
    assert np.allclose(subject.vectors[:30], moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-5)
    assert not subject.vectors[30:].any()


def test_raw_content_weighs_modalities_and_keeps_length_one() -> None:
    """Rows (1, 1 | 0) and (1, 0 | 1) over √2, weight 2 on the second modality: lengths √2 and √5, cosine 1/√10."""
    content = np.array([[1, 1, 0], [1, 0, 1], [-1, -1, 0], [-1, 0, -1]])
    of = material(np.ones((2, 4)), content, modalities={"text": slice(0, 2), "image": slice(2, 3)})
    vectors = RawContent(of).fit({"image": 2.0}).vectors
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] == pytest.approx(10**-0.5)


def test_validation_finds_the_modality_that_speaks(tmp_path: Path) -> None:
    """Beside the planted content stand as many columns of noise: their weight is chosen low."""
    world = plant(tmp_path)
    path = world.content / "raw_content.parquet"
    table = EmbeddingTable.read(path)
    noise = np.random.default_rng(0).standard_normal(table.vectors.shape).astype(np.float32)
    noise *= 3 * np.linalg.norm(table.vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    width = table.vectors.shape[1]
    both = np.hstack([table.vectors, noise])
    EmbeddingTable(table.ids, both, metadata={"widths": [("text", width), ("image", width)]}).write(path)
    of, questions = _materials(world)
    made = make_baseline("raw_content", BaselinesConfig(trials=8), questions=questions, **of)
    assert made.chosen is not None
    assert made.chosen.settings["image"] < 0.7
    assert made.selection is not None
    alike = RawContent(of["final"]).fit({})
    ours = recall_at_k(made.final.ranks(questions), k=10)
    assert ours > recall_at_k(alike.ranks(questions), k=10)


def _lesson(nonlinear: bool, shift: float = 0.0) -> tuple[Material, EmbeddingTable, np.ndarray]:
    rng = np.random.default_rng(5)
    content = rng.normal(size=(300, 4))
    of = material((rng.random((20, 300)) < 0.4), content)
    inputs = of.content
    curved = np.stack([np.sin(4 * inputs[:, 0]), inputs[:, 1] * inputs[:, 2] * 3], axis=1)
    truth = curved if nonlinear else inputs[:, :3]
    table = EmbeddingTable(of.item_ids[:200], (truth[:200] + shift).astype(np.float32), metadata={"geometry": "dot"})
    return of, table, truth


def _agreement(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean correlation over the dimensions, on the items the regression did not see."""
    return float(np.mean([np.corrcoef(predicted[200:, at], truth[200:, at])[0, 1] for at in range(truth.shape[1])]))


def test_ridge_recovers_a_linear_map_and_kernel_ridge_a_curved_one() -> None:
    of, table, truth = _lesson(nonlinear=False)
    assert _agreement(Ridge(of, table).fit(l2=1e-3, confidence=1.0).vectors, truth) > 0.999
    of, table, truth = _lesson(nonlinear=True)
    straight = Ridge(of, table).fit(l2=1e-3, confidence=1.0).vectors
    curved = KernelRidge(of, table, max_points=300).fit(l2=1e-3, gamma=1.0, confidence=1.0).vectors
    assert _agreement(curved, truth) > 0.97 > 0.8 > _agreement(straight, truth)


def test_a_shift_of_the_teacher_changes_no_prediction() -> None:
    """Without centring, a common component of the teacher would swamp what tells items apart."""
    predictions = []
    for shift in (0.0, 30.0):
        of, table, _ = _lesson(nonlinear=False, shift=shift)
        predictions.append(
            [
                Ridge(of, table).fit(l2=1.0, confidence=2.0).vectors,
                KernelRidge(of, table, max_points=300).fit(l2=0.1, gamma=1.0, confidence=2.0).vectors,
            ]
        )
    for plain, moved in zip(*predictions, strict=True):
        assert np.allclose(plain, moved, atol=1e-3)


def test_kernel_ridge_equals_its_formula() -> None:
    of, table, _ = _lesson(nonlinear=True)
    found = KernelRidge(of, table, max_points=80).fit(l2=0.3, gamma=0.7, confidence=2.0).vectors
    support = np.maximum(of.support[:200], 0.5)
    points_used = np.sort(np.argsort(-support, kind="stable")[:80])
    weights = support[points_used] / (support[points_used] + 2.0)
    inputs = of.content.astype(np.float64)
    squared = ((inputs[:, None] - inputs[None, points_used]) ** 2).sum(axis=2)
    square = squared[points_used].ravel()
    kernel = np.exp(-0.7 * squared / np.sort(square)[(len(square) - 1) // 2])
    targets = table.vectors[points_used] - np.average(table.vectors[points_used], axis=0, weights=weights)
    dual = np.linalg.solve(kernel[points_used] + 0.3 * np.diag(1 / weights), targets)
    assert np.allclose(found, kernel @ dual, atol=2e-3)


def test_trials_cover_the_box_and_grow_by_adding() -> None:
    ranges = {"l2": (1e-2, 1e2), "gamma": (0.1, 10.0)}
    few, many = points(ranges, count=5), points(ranges, count=12)
    assert many[:5] == few
    logs = np.log10([point["l2"] for point in many])
    assert logs.min() < -1 < 1 < logs.max()
    assert all(1e-2 <= point["l2"] <= 1e2 and 0.1 <= point["gamma"] <= 10 for point in many)
    chosen = choose(ranges, lambda settings: -abs(np.log(settings["l2"])), count=12)
    assert chosen.score == max(score for _, score in chosen.tried)
    assert abs(np.log10(chosen.settings["l2"])) < 0.5
    assert len(chosen.tried) == 12


def _selection(tmp_path: Path, teacher: str = "id_teacher") -> tuple[dict[str, Material], Questions]:
    return _materials(plant(tmp_path), teacher)


def _materials(world: Planted, teacher: str = "id_teacher") -> tuple[dict[str, Material], Questions]:
    read = {
        fit: Material.read(
            world.fold,
            fit,
            content=world.content / "raw_content.parquet",
            teacher=world.teach / fit / f"{teacher}.parquet",
            min_positive=1,
        )
        for fit in ("selection", "final")
    }
    return read, seq2item(Seq2ItemConfig(), world.fold, "selection", seed=0, cold=~read["selection"].known)


def test_ials_on_one_factor_is_the_fixed_point_of_its_equations() -> None:
    """y_i = α Σ x_u / (Σ x² + (α − 1) Σ_liked x² + λ) and x_u likewise: neither sweep moves the factors any more."""
    pytest.importorskip("implicit")
    liked = np.tril(np.ones((6, 4)))
    liked[:, 2] = 0  # liked by nobody
    subject = Ials(material(liked, np.ones((4, 2))), dim=1, iterations=200, seed=0).fit(alpha=3.0, l2=0.5)
    assert subject.present.tolist() == [True, True, False, True]
    item = subject.vectors[:, 0].astype(np.float64)
    assert item[2] == 0 and item[0] != 0

    def solve(other: np.ndarray, likes: np.ndarray) -> np.ndarray:
        return 3.0 * likes @ other / ((other**2).sum() + 2.0 * likes @ other**2 + 0.5)

    assert np.allclose(solve(solve(item, liked), liked.T), item, rtol=1e-3)


def test_ials_is_asked_by_the_geometry_that_validates_better(tmp_path: Path) -> None:
    pytest.importorskip("implicit")
    of, questions = _selection(tmp_path)
    config = BaselinesConfig(trials=3, ials=IalsConfig(dim=8))
    made = make_baseline("ials", config, questions=questions, seed=1, **of)
    assert made.chosen is not None and isinstance(made.selection, VectorSubject)
    tried = made.chosen.tried
    assert [settings["cosine"] for settings, _ in tried] == [True, False] * 3
    assert len({(settings["alpha"], settings["l2"]) for settings, _ in tried}) == 3
    assert made.chosen.score == max(score for _, score in tried) > 2 * 10 / 90  # twice what chance would find
    assert recall_at_k(made.selection.ranks(questions), k=10) == made.chosen.score
    for subject in (made.selection, made.final):
        assert isinstance(subject, VectorSubject) and subject.cosine == made.chosen.settings["cosine"]
    assert not made.selection.present[-COLD:].any()  # it knows nothing of items that training does not
    again = make_baseline("ials", config, questions=questions, seed=1, **of).chosen
    other = make_baseline("ials", config, questions=questions, seed=2, **of).chosen
    assert again == made.chosen != other


@pytest.mark.parametrize("name", ["ridge", "kernel_ridge", "ease", "ease_content"])
def test_tuned_baselines_try_as_often_as_told_and_keep_the_best(tmp_path: Path, name: str) -> None:
    of, questions = _selection(tmp_path)
    made = make_baseline(name, BaselinesConfig(trials=4), questions=questions, **of)  # type: ignore[arg-type]
    assert made.chosen is not None
    assert len(made.chosen.tried) == 4
    assert made.chosen.score == max(score for _, score in made.chosen.tried)
    assert made.chosen.score > 2 * 10 / 90  # twice what chance would find
    assert (made.selection is None) == (name == "ease")  # which cannot place a new item


def test_what_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of, questions = _selection(tmp_path, teacher="nobody")
    with pytest.raises(Skipped, match="no teacher table"):
        make_baseline("ridge", BaselinesConfig(), questions=questions, **of)
    small = BaselinesConfig(ease=EaseConfig(max_items=20))
    with pytest.raises(Skipped, match="90 items"):
        make_baseline("ease", small, questions=questions, **of)
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(Skipped, match="needs the package 'implicit'"):
        make_baseline("ials", BaselinesConfig(), questions=questions, **of)
