"""The skip connection: its share of every cosine, its columns, and that no training moves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from tiny_world import World
from torch.nn.functional import cosine_similarity, normalize
from tuned_students import settings, source_of, train

from recdistill.errors import UserError
from recdistill.students import FeatureStore, RecDistillStudent, StudentConfig, build_student
from recdistill.students.featurizer.featurizer import token_mean
from recdistill.students.skip import Skip


def skip_student(world: World, *, share: float = 0.3, dim: int = 12, columns: float = 0.5) -> RecDistillStudent:
    config = StudentConfig.model_validate({"dim": dim, "skip": {"share": share, "columns": columns}, "prefixes": ()})
    return build_student(config, content=world.content, seed=1).eval()


@pytest.fixture(scope="module")
def store(world: World) -> FeatureStore:
    return FeatureStore.load(world.content, pd.Index(world.ids))


def test_a_cosine_is_the_two_parts_in_their_shares(world: World, store: FeatureStore) -> None:
    student = skip_student(world)
    features, present = store.batch(torch.arange(len(store)))
    vectors = student(features, present).detach()
    learned, content = vectors.split((6, 6), dim=1)
    full = torch.stack([present[m] for m in student.modalities], 1).any(1)
    first, second = vectors[full][:-1], vectors[full][1:]
    expected = 0.7 * cosine_similarity(learned[full][:-1], learned[full][1:])
    expected += 0.3 * cosine_similarity(content[full][:-1], content[full][1:])
    torch.testing.assert_close(cosine_similarity(first, second), expected)
    torch.testing.assert_close(normalize(vectors, dim=1)[full], vectors[full])


def test_content_is_the_components_of_what_is_there(world: World, store: FeatureStore) -> None:
    """By hand: weighted raw content, centred, along its leading principal directions."""
    skip = {"columns": 0.5, "weights": {"text": 3.0}}
    config = StudentConfig.model_validate({"dim": 6, "skip": skip, "modalities": ["image", "text"], "prefixes": ()})
    student = build_student(config, content=world.content, seed=0).eval()
    features, present = store.batch(torch.arange(len(store)))
    units = [normalize(token_mean(features[m]).double(), dim=1) * present[m][:, None] for m in ("image", "text")]
    count = present["image"].double() + present["text"].double()
    raw = torch.cat([units[0], 3 * units[1]], dim=1) / count.clamp(min=1).sqrt()[:, None]
    anything = torch.stack(list(present.values())).any(0)  # raw content has a row of each item that has anything
    centred = raw - raw[anything].mean(0)
    _, _, directions = torch.linalg.svd(centred[anything], full_matrices=False)
    expected = normalize(centred @ directions[:3].T, dim=1)
    found = normalize(student(features, present)[:, 3:].double(), dim=1)
    signs = torch.sign((expected * found).sum(0))
    torch.testing.assert_close(found, expected * signs, atol=1e-4, rtol=1e-4)


def test_no_training_moves_content(world: World, store: FeatureStore) -> None:
    student = skip_student(world)
    features, present = store.batch(torch.arange(len(store)))
    before = student(features, present).detach()
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        student.train()(features, present).sum().backward()
        optimizer.step()
    after = student.eval()(features, present)
    torch.testing.assert_close(after[:, 6:], before[:, 6:], atol=0, rtol=0)
    assert not torch.allclose(after[:, :6], before[:, :6], atol=1e-3)


def test_saved_and_loaded_it_gives_the_same_vectors(world: World, store: FeatureStore, tmp_path: Path) -> None:
    student = skip_student(world)
    student.save_pretrained(tmp_path)
    loaded = RecDistillStudent.from_pretrained(tmp_path).eval()
    assert (student.encode_store(store) == loaded.encode_store(store)).all()
    assert loaded.encode(world.given[:3]).shape == (3, 12)


def test_the_narrowest_student_has_a_column_of_either(world: World, store: FeatureStore) -> None:
    student = skip_student(world, dim=2)
    features, present = store.batch(torch.arange(len(store)))
    squares = student(features, present).detach() ** 2
    full = torch.stack([present[m] for m in student.modalities], 1).any(1)
    torch.testing.assert_close(squares[full], torch.tensor([[0.7, 0.3]]).expand(int(full.sum()), 2))
    assert isinstance(student.body, Skip) and student.config.skip["columns"] == 1


def test_what_a_tuned_tower_reads_is_no_part_of_untrained_content(world: World) -> None:
    """Training moves the tower, and the content columns of no item."""
    config = settings("full", "image", skip={"share": 0.3}, modalities=["image", "text"])
    student, source = build_student(config, content=world.content, seed=0).eval(), source_of(config, world)
    assert isinstance(student.body, Skip) and list(student.body.widths) == ["text"]
    before = student.encode_store(source)
    train(student, source, steps=3)
    after = student.encode_store(source)
    assert not np.allclose(after[:, :6], before[:, :6], atol=1e-3)
    np.testing.assert_allclose(after[:, 6:], before[:, 6:], atol=1e-6)


def test_a_skip_connection_from_tuned_towers_alone_is_refused(world: World) -> None:
    with pytest.raises(ValidationError, match="set skip null"):
        settings("full", "image", "text", skip={}, modalities=["image", "text"])
    every = settings("lora", "image", "text", skip={})
    assert build_student(every, content=world.content, seed=0).config.skip  # tags and sounds are left
    with pytest.raises(UserError, match="trains the towers of all that is read") as caught:
        build_student(
            every.model_copy(update={"modalities": ("text",), "tuning": {"text": "full"}}),
            content=world.content,
            seed=0,
        )
    assert "student.skip to null" in caught.value.remedy


def test_a_wide_student_learns_in_the_columns_that_content_cannot_fill(world: World, store: FeatureStore) -> None:
    narrow = skip_student(world)
    have = sum(narrow.featurizer.widths[m] for m in narrow.modalities)
    student = skip_student(world, dim=4 * have)
    assert isinstance(student.body, Skip)
    assert student.config.skip["columns"] == have
    assert student.encode_store(store).shape[1] == 4 * have
