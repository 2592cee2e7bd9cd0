"""Instructions, and the vectors that subsets of the modalities give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_decoder import tiny_qwen3
from tiny_world import World, make_items, write_catalogue

from recdistill.errors import UserError
from recdistill.students import (
    EncodersConfig,
    FeatureStore,
    RecDistillStudent,
    StudentConfig,
    build_student,
    encode,
)
from recdistill.students.prompts import with_prompt

PROMPTS = {"query": "Love story.", "target": "War: the king of the sea"}
SUBSETS = (("text",), ("image",), ("image", "text"), ("audio", "image", "text", "structured"), ())
KINDS = ("linear", "fusion", "qwen3", "skip")


@pytest.fixture(scope="module")
def store(world: World) -> FeatureStore:
    return FeatureStore.load(world.content, pd.Index(world.ids))


@pytest.fixture(scope="module")
def build(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RecDistillStudent]:
    folder = tiny_qwen3(tmp_path_factory.mktemp("decoder"))

    def make(kind: str, **changes: Any) -> RecDistillStudent:
        of_kind = {"qwen3": {"kind": "fusion", "fuser": str(folder)}, "skip": {"kind": "linear", "skip": {}}}
        shape = {"dim": 12, "width": 16, "heads": 2, "queries": 3, "instructions": PROMPTS, "skip": None}
        settings = {**shape, **of_kind.get(kind, {"kind": kind}), **changes}
        return build_student(StudentConfig.model_validate(settings), content=world.content, seed=2).eval()

    return make


@pytest.fixture(scope="module", params=KINDS)
def student(request: pytest.FixtureRequest, build: Callable[..., RecDistillStudent]) -> RecDistillStudent:
    return build(request.param)


def prompt_of(student: RecDistillStudent) -> torch.nn.Linear:
    """The map of instructions' features."""
    return getattr(student.body, "learned", student.body).prompt


def test_an_instruction_changes_vectors_and_each_its_own_way(
    student: RecDistillStudent, world: World, store: FeatureStore
) -> None:
    vectors = {name: student.encode(world.given, instruction=name) for name in (None, *PROMPTS)}
    for one, other in ((None, "query"), (None, "target"), ("query", "target")):
        assert (np.abs(vectors[one] - vectors[other]).max(axis=1) > 1e-4).all()
    for name, expected in vectors.items():
        np.testing.assert_allclose(student.encode_store(store, instruction=name), expected, atol=1e-4)
        np.testing.assert_allclose(student.encode(world.given[:3], instruction=name), expected[:3], atol=1e-5)


def test_without_an_instruction_it_is_as_if_there_were_none(student: RecDistillStudent, store: FeatureStore) -> None:
    """An item that has none in a batch where others have one, whatever stands in its place."""
    features, present = store.batch(torch.arange(len(store)))
    given, there = with_prompt(features, present, student.instruction("query"))
    some = torch.arange(len(store)) % 2 == 0
    noisy = torch.where(some[:, None, None], given["instruction"], torch.nan)
    with torch.no_grad():
        plain, asked = student(features, present), student(given, there)
    mixed = student({**given, "instruction": noisy}, {**there, "instruction": some})
    mixed.sum().backward()
    assert prompt_of(student).weight.grad.isfinite().all()
    student.zero_grad()
    torch.testing.assert_close(mixed, torch.where(some[:, None], asked, plain), atol=1e-5, rtol=0)


def test_an_instruction_is_the_towers_and_the_words_of_the_prompt(student: RecDistillStudent, world: World) -> None:
    """As the features of an item with that text alone, but for the words' title."""
    feature = student.instruction("query")
    vectors = student.towers.text.encode(["Love story."])
    block = type("Block", (), {"texts": [{"any": "Love story."}]})()
    expected = student.featurizer.text(torch.from_numpy(vectors), block)
    torch.testing.assert_close(feature, expected, atol=1e-5, rtol=0)
    assert not feature.requires_grad


def test_saved_and_loaded_the_instructions_need_no_tower(
    student: RecDistillStudent, store: FeatureStore, tmp_path: Path
) -> None:
    student.save_pretrained(tmp_path)
    again = RecDistillStudent.from_pretrained(tmp_path)
    for name in PROMPTS:
        assert torch.equal(again.instruction(name), student.instruction(name))
        np.testing.assert_allclose(
            again.encode_store(store, instruction=name), student.encode_store(store, instruction=name), atol=1e-6
        )
    assert again._towers is None


def test_gradients_reach_the_instructions_weights(student: RecDistillStudent, store: FeatureStore) -> None:
    features, present = store.batch(torch.arange(6))
    student(*with_prompt(features, present, student.instruction("query"))).square().sum().backward()
    assert prompt_of(student).weight.grad.abs().sum() > 0
    student.zero_grad()


def test_an_unknown_instruction_is_named(student: RecDistillStudent, build: Callable[..., RecDistillStudent]) -> None:
    with pytest.raises(UserError, match=r"no instruction 'quey' \(known: query, target\)"):
        student.encode([{"text": {"title": "Heat"}}], instruction="quey")
    with pytest.raises(UserError, match=r"no instruction 'query' \(known: none\)"):
        build("linear", instructions={}).encode([{"text": {"title": "Heat"}}], instruction="query")


def test_instructions_need_encoded_text(tmp_path: Path, make_config: Callable[..., EncodersConfig]) -> None:
    items, media = make_items(6)
    write_catalogue(tmp_path, items, media)
    encode(make_config(tmp_path / "cache", text=None, audio=None), data=tmp_path, out=tmp_path / "content")
    with pytest.raises(UserError, match="instructions are read by the text tower"):
        build_student(StudentConfig(instructions=PROMPTS), content=tmp_path / "content", seed=0)


def test_instructions_leave_the_other_weights_as_they_are(build: Callable[..., RecDistillStudent]) -> None:
    for kind in KINDS:
        plain, asked = build(kind, instructions={}).state_dict(), build(kind).state_dict()
        body = "body.learned" if kind == "skip" else "body"
        assert set(asked) - set(plain) == {"prompts", f"{body}.prompt.weight", f"{body}.prompt.bias"}
        assert all(torch.equal(asked[name], plain[name]) for name in plain)


def apart(
    student: RecDistillStudent, features: dict[str, Any], present: dict[str, Any], subsets: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The views by separate forwards."""
    vectors, there = [], []
    for subset in subsets:
        seen = {m: mask if m in subset or m == "instruction" else torch.zeros_like(mask) for m, mask in present.items()}
        vectors.append(student(features, seen))
        there.append(torch.stack([seen[m] for m in student.modalities]).any(0))
    return torch.stack(vectors), torch.stack(there)


@pytest.mark.parametrize("instruction", [None, "query"])
def test_views_are_those_of_separate_forwards(
    student: RecDistillStudent, store: FeatureStore, instruction: str | None
) -> None:
    features, present = store.batch(torch.arange(len(store)))
    if instruction:
        features, present = with_prompt(features, present, student.instruction(instruction))
    losses = torch.randn(len(SUBSETS), len(store), 12, generator=torch.Generator().manual_seed(0))
    gradients = []
    for views in (student.views, lambda *given: apart(student, *given)):
        vectors, there = views(features, present, SUBSETS)
        (vectors * losses).sum().backward()
        gradients.append({name: weight.grad for name, weight in student.named_parameters() if weight.grad is not None})
        student.zero_grad(set_to_none=True)
    expected, expected_there = apart(student, features, present, SUBSETS)
    vectors, there = student.views(features, present, SUBSETS)
    assert vectors.shape == (5, len(store), 12)
    assert torch.equal(there, expected_there)
    assert not there[4].any() and there[:4].any(1).all()
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_views_of_modalities(build: Callable[..., RecDistillStudent], store: FeatureStore) -> None:
    student = build("linear", modalities=("text", "image"), modality_dropout=0.9, dropout=0.0).train()
    features, present = store.batch(torch.arange(len(store)))
    vectors, there = student.views(features, present, [("text",), ("audio",), ("text", "image")])
    assert not there[1].any()  # the student does not read it
    # Nothing is hidden beyond what a subset leaves out, in training neither.
    torch.testing.assert_close(vectors[2], student.eval()(features, present))
    with pytest.raises(ValueError, match="no such modality: vision"):
        student.views(features, present, [("vision",)])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gives_the_same_views(
    build: Callable[..., RecDistillStudent], store: FeatureStore, kind: str
) -> None:
    student = build(kind)
    features, present = with_prompt(*store.batch(torch.arange(len(store))), student.instruction("query"))
    expected, _ = student.views(features, present, SUBSETS)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = student.views(features, present, SUBSETS)
        half.float().square().sum().backward()
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.1)
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())
