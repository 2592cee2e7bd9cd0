"""What a text tower gives: the mean over the tokens that are there, of hidden states or of the embeddings alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world import WORDS, World, tiny_bert, tiny_qwen

from recdistill.errors import UserError
from recdistill.students import EncodersConfig, RecDistillStudent, StudentConfig, build_student, feature_source
from recdistill.students.config import TextEncoderConfig
from recdistill.students.encoders.text import TokenEmbeddings, text_tower
from recdistill.students.tuning import make_trainable, plan_tuning

TEXTS = ["heat", " ".join(WORDS), "war and love"]
Make = Callable[..., EncodersConfig]


def tokens(folder: Path, text: str) -> list[int]:
    from transformers import AutoTokenizer

    found: list[int] = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return found


def test_a_decoders_hidden_states_are_averaged_over_the_texts_own_tokens(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = tiny_qwen(tmp_path)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    together = text_tower(TextEncoderConfig(name=str(folder))).encode(TEXTS)
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([tokens(folder, text)])).last_hidden_state[0]
        np.testing.assert_allclose(together[row, 0], hidden.mean(0), atol=1e-5)


@pytest.mark.parametrize("make", [tiny_qwen, tiny_bert])
@pytest.mark.parametrize("nested", [False, True])
def test_embeddings_are_read_alone(tmp_path: Path, make: Callable[[Path], Path], nested: bool) -> None:
    folder = make(tmp_path)
    weights = load_file(folder / "model.safetensors")
    table = weights[next(name for name in weights if name.endswith(("embed_tokens.weight", "word_embeddings.weight")))]
    if nested:  # as part of a model with a head, and in parts
        names = sorted(weights)
        for part, mine in enumerate((names[::2], names[1::2])):
            save_file({f"model.{name}": weights[name] for name in mine}, folder / f"model-{part}.safetensors")
        (folder / "model.safetensors").unlink()
    tower = text_tower(TextEncoderConfig(name=str(folder), output="embeddings"))
    assert isinstance(tower.network, TokenEmbeddings)
    vectors = tower.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(vectors[row, 0], table[tokens(folder, text)].mean(0), atol=1e-6)
    assert tower.identity != text_tower(TextEncoderConfig(name=str(folder))).identity


def test_embeddings_that_are_not_there_are_named(tmp_path: Path) -> None:
    folder = tiny_qwen(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("embed_tokens.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"no weights embed_tokens.weight of shape \(64, 16\)"):
        text_tower(TextEncoderConfig(name=str(folder), output="embeddings")).encode(["heat"])


def test_embeddings_are_tuned_in_full_and_travel_with_the_student(tmp_path: Path, make_config: Make) -> None:
    text = {"name": str(tiny_qwen(tmp_path / "qwen")), "output": "embeddings", "lexical": 8}
    world = World(tmp_path, make_config(tmp_path / "cache", text=text, image=None, audio=None))
    with pytest.raises(UserError, match="no linear layers"):
        build_student(StudentConfig(tuning={"text": "lora"}), content=world.content, seed=0)
    config = StudentConfig(dim=8, tuning={"text": "full"})
    student = build_student(config, content=world.content, seed=0).train()
    source = feature_source(config, content=world.content, data=world.data, item_ids=pd.Index(world.ids))
    student(*source.batch(slice(0, 8))).square().sum().backward()
    weight = student.tuned.networks["text"].embeddings.weight  # type: ignore[union-attr]
    assert (weight.grad.abs().sum(1) > 0).sum() > 5  # type: ignore[union-attr, operator]
    with torch.no_grad():
        weight.add_(torch.randn(weight.shape))  # type: ignore[union-attr, arg-type]
    student.eval().save_pretrained(tmp_path / "student")
    loaded = RecDistillStudent.from_pretrained(tmp_path / "student")
    np.testing.assert_allclose(loaded.encode(world.given), student.encode_store(source), atol=1e-4)
    assert json.loads((tmp_path / "student" / "config.json").read_text())["towers"]["text"]["architecture"] == {
        "shape": [64, 16]
    }


def test_weights_that_have_no_say_are_left_alone(tmp_path: Path) -> None:
    tower = text_tower(TextEncoderConfig(name=str(tiny_bert(tmp_path))))
    plan = plan_tuning(tower.network, tower.sample(), how="full", rank=2, alpha=4, modality="text")
    assert plan["unused"] == ["model.pooler.dense.bias", "model.pooler.dense.weight"]
    plan = plan_tuning(tower.network, tower.sample(), how="lora", rank=2, alpha=4, modality="text")
    assert len(plan["layers"]) == 2 * 6  # query, key, value, output; two of the feed-forward; a layer
    assert not any("pooler" in layer for layer in plan["layers"])


def test_what_is_frozen_stays_so(tmp_path: Path) -> None:
    tower = text_tower(TextEncoderConfig(name=str(tiny_bert(tmp_path))))
    plan = plan_tuning(tower.network, tower.sample(), how="full", rank=2, alpha=4, modality="text")
    make_trainable(tower.network, plan)
    frozen = {name for name, weight in tower.network.named_parameters() if not weight.requires_grad}
    assert frozen == set(plan["unused"])
    tower.network.requires_grad_(True).eval()  # as from_pretrained leaves it
    assert {name for name, weight in tower.network.named_parameters() if not weight.requires_grad} == frozen
