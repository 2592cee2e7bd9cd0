"""Towers that are trained with the student: real architectures with small random weights, LoRA and in full."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_world import World
from torch import Tensor, nn
from tuned_students import TUNED, copies, settings, source_of, train

from recdistill.errors import UserError
from recdistill.students import (
    EncodersConfig,
    FeatureStore,
    build_student,
)
from recdistill.students.tuning import parameter_groups

Make = Callable[..., EncodersConfig]


@pytest.mark.parametrize("kind", ["linear", "fusion"])
@pytest.mark.parametrize("how", ["lora", "full"])
def test_it_starts_as_the_frozen_student(catalogue: World, how: str, kind: str) -> None:
    config = settings(how, *TUNED, kind=kind)
    tuned = build_student(config, content=catalogue.content, seed=1).eval()
    frozen = build_student(settings(how, kind=kind), content=catalogue.content, seed=1).eval()
    body = frozen.body.state_dict()
    assert all(torch.equal(value, body[name]) for name, value in tuned.body.state_dict().items())
    expected = frozen.encode_store(FeatureStore.load(catalogue.content, pd.Index(catalogue.ids)))
    np.testing.assert_allclose(tuned.encode_store(source_of(config, catalogue)), expected, atol=1e-4)
    np.testing.assert_allclose(tuned.encode(catalogue.given), expected, atol=1e-4)


@pytest.mark.parametrize("modality", TUNED)
@pytest.mark.parametrize("how", ["lora", "full"])
def test_training_lowers_the_loss_and_changes_what_it_says(catalogue: World, how: str, modality: str) -> None:
    config = settings(how, modality, modalities=(modality,))
    student = build_student(config, content=catalogue.content, seed=0)
    before = copies(student)
    losses = train(student, source_of(config, catalogue), steps=12)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.02
    after = student.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    of_tower = {name for name in moved if name.startswith("tuned.")}
    trainable = {name for name, weight in student.tuned.named_parameters(prefix="tuned") if weight.requires_grad}
    assert of_tower == trainable
    if how == "lora":
        assert all(".lora_" in name for name in trainable)
        layers = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in trainable}
        assert (
            layers
            >= {"audio": {"query", "value"}, "image": {"q_proj", "fc1"}, "text": {"q_proj", "gate_proj"}}[modality]
        )
    else:
        weights = dict(student.tuned.named_parameters(prefix="tuned"))
        assert len(trainable) > 0.8 * len(weights)
    assert all(name.startswith(("tuned.", "body.")) for name in moved)


def test_a_vector_depends_on_no_other_item(catalogue: World) -> None:
    config = settings("full", *TUNED)
    student = build_student(config, content=catalogue.content, seed=0)
    source = source_of(config, catalogue)
    train(student, source, steps=2)
    whole = student.encode_store(source)
    np.testing.assert_allclose(student.encode_store(source, batch_size=1), whole, atol=1e-5)
    np.testing.assert_allclose(student.encode(catalogue.given[::-1], batch_size=5)[::-1], whole, atol=1e-4)
    features, present = source.batch(torch.arange(len(source)))
    with torch.no_grad():  # in groups, on the cores
        grouped = student(features, present)
    torch.testing.assert_close(student(features, present).detach(), grouped, atol=1e-5, rtol=0)
    part = torch.tensor([5, 3, 3, 20])
    some = {m: values[part] for m, values in features.items()}, {m: mask[part] for m, mask in present.items()}
    torch.testing.assert_close(student(*some).detach(), grouped[part], atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["lora", "full"])
def test_gradient_checkpointing_reaches_the_towers(catalogue: World, how: str) -> None:
    config = settings(how, *TUNED, modality_dropout=0, dropout=0)
    student = build_student(config, content=catalogue.content, seed=0).train()
    features, present = source_of(config, catalogue).batch(torch.arange(8))

    def gradients() -> dict[str, Tensor]:
        student.zero_grad()
        torch.manual_seed(0)
        student(features, present).square().sum().backward()
        return {name: weight.grad.clone() for name, weight in student.named_parameters() if weight.grad is not None}

    plain = gradients()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        student.gradient_checkpointing_enable()
    parts = student.named_modules()
    reached = {name.split(".")[2] for name, module in parts if getattr(module, "gradient_checkpointing", False)}
    assert reached == set(TUNED)
    runs = []
    layer = next(module for name, module in student.named_modules() if name.endswith("layers.0.self_attn.q_proj"))
    layer.register_forward_hook(lambda *_: runs.append(1))
    checkpointed = gradients()
    assert len(runs) == 2  # once more in the backward pass
    assert checkpointed.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-4)


def test_bf16_autocast_is_close(catalogue: World) -> None:
    config = settings("full", *TUNED, modality_dropout=0, dropout=0)
    student = build_student(config, content=catalogue.content, seed=0).eval()
    features, present = source_of(config, catalogue).batch(torch.arange(len(catalogue.ids)))
    exact = student(features, present)
    with torch.autocast("cpu", torch.bfloat16):
        near = student(features, present)
    near.float().square().sum().backward()
    cosine = nn.functional.cosine_similarity(near.float(), exact)
    assert cosine.min() > 0.99
    assert all(w.grad is None or w.grad.isfinite().all() for w in student.parameters())


def test_towers_without_a_use_get_a_gradient_of_zero(catalogue: World) -> None:
    config = settings("lora", *TUNED)
    student = build_student(config, content=catalogue.content, seed=0).train()
    source = source_of(config, catalogue)
    texts = torch.tensor([row for row, item in enumerate(catalogue.items) if not {"image", "audio"} & item.keys()])
    features, present = source.batch(texts)
    assert not present["image"].any()
    student(features, present).sum().backward()
    for modality in TUNED:
        found = [w.grad for w in student.tuned.networks[modality].parameters() if w.requires_grad]
        assert all(gradient is not None for gradient in found)
        assert any(gradient.abs().sum() > 0 for gradient in found if gradient is not None) == (modality == "text")


def test_batch_normalisation_keeps_its_statistics(catalogue: World) -> None:
    student = build_student(settings("full", "audio"), content=catalogue.content, seed=0).train()
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(module.training for module in norms)


def test_features_of_the_frozen_tower_are_refused(catalogue: World) -> None:
    student = build_student(settings("full", "text"), content=catalogue.content, seed=0)
    store = FeatureStore.load(catalogue.content, pd.Index(catalogue.ids))
    with pytest.raises(ValueError, match="this student's own is tuned"):
        student.encode_store(store)


def test_what_cannot_be_tuned_is_the_users_mistake(catalogue: World, world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="structured"):
        settings("full", "structured")
    for config, of, message in (
        (settings("full", "audio"), world, "packaged:logmel has no weights"),
        (settings("lora", "image", modalities=("text",)), catalogue, "does not read"),
    ):
        with pytest.raises(UserError, match=message):
            source_of(config, of)
        with pytest.raises(UserError, match=message):
            build_student(config, content=of.content, seed=0)


def test_groups_give_towers_their_own_rate(catalogue: World) -> None:
    student = build_student(settings("lora", "text"), content=catalogue.content, seed=0)
    rest, towers = parameter_groups(student, student.tuned, learning_rate=0.1, share=0.5)
    assert (rest["lr"], towers["lr"]) == (0.1, 0.05)
    assert {id(w) for w in rest["params"]} == {id(w) for w in student.body.parameters()}
    assert {id(w) for w in towers["params"]} == {id(w) for w in student.tuned.parameters() if w.requires_grad}
    frozen = build_student(settings("lora"), content=catalogue.content, seed=0)
    assert len(parameter_groups(frozen, frozen.tuned, learning_rate=0.1, share=0.5)) == 1


def test_fields_that_are_tokens_go_through_the_tower_one_by_one(
    tmp_path: Path, make_config: Make, homes: dict[str, Path]
) -> None:
    text = {"name": str(homes["text"]), "lexical": 8, "tokens": "fields"}
    world = World(tmp_path, make_config(tmp_path / "cache", text=text, image=None, audio=None))
    prompts = {"similar": "title night"}
    config = settings("lora", "text", kind="fusion", instructions=prompts, field_dropout=0.2)
    student = build_student(config, content=world.content, seed=0).eval()
    frozen = build_student(settings("lora", kind="fusion", instructions=prompts), content=world.content, seed=0).eval()
    source, store = source_of(config, world), FeatureStore.load(world.content, pd.Index(world.ids))
    for name in (None, "similar"):
        expected = frozen.encode_store(store, instruction=name)
        np.testing.assert_allclose(student.encode_store(source, instruction=name), expected, atol=1e-4)
        np.testing.assert_allclose(student.encode(world.given, instruction=name), expected, atol=1e-4)
    subsets = (("text",), ("text", "structured"))
    with torch.no_grad():
        views, there = student.views(*source.batch(slice(0, 6)), subsets)
        same, _ = frozen.views(*store.batch(slice(0, 6)), subsets)
    assert there[0].all()
    torch.testing.assert_close(views, same, atol=1e-4, rtol=0)
    train(student, source, steps=2)
    np.testing.assert_allclose(student.encode(world.given), student.encode_store(source), atol=1e-4)
