"""Fusers: who sees whom, padding without influence, places, pretrained weights, adapters, saved and loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_decoder import tiny_qwen3
from tiny_world import World, tiny_bert
from torch import nn

from recdistill.errors import UserError
from recdistill.students import FeatureStore, RecDistillStudent, StudentConfig, build_student
from recdistill.students.fusers import Decoder, SmallTransformer, load_decoder
from recdistill.students.fusion import PROMPT_PLACES, FusionStudent

PLACES = torch.arange(16, 21)
Make = Callable[[bool], nn.Module]


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3(tmp_path_factory.mktemp("decoder"))


def decoder(folder: Path, *, causal: bool = False) -> Decoder:
    return Decoder(load_decoder(str(folder), causal=causal), training="full", rank=4, alpha=8)


@pytest.fixture(params=["small", "qwen3"])
def make(request: pytest.FixtureRequest, qwen3: Path) -> Make:
    """Gives a fuser of width 16, causal or not."""

    def small(causal: bool) -> nn.Module:
        torch.manual_seed(0)
        return SmallTransformer(width=16, depth=2, heads=2, dropout=0.0, causal=causal)

    return small if request.param == "small" else lambda causal: decoder(qwen3, causal=causal)


def influence(fuser: nn.Module, there: list[bool], *, of: int, on: int) -> float:
    """Largest gradient of a token's output with respect to another's input."""
    torch.manual_seed(1)
    tokens = torch.randn(2, len(there), 16, requires_grad=True)
    mask = torch.tensor([there, [True] * len(there)])
    out = fuser(tokens, mask, PLACES[: len(there)])
    (gradient,) = torch.autograd.grad(out[0, on] @ torch.randn(16), tokens)
    assert not gradient[1].any()  # nor does another item matter
    return gradient[0, of].abs().max().item()


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("there", [[True] * 5, [True, True, True, True, False], [False, True, True, False, True]])
def test_later_tokens_influence_earlier_ones_unless_causal(make: Make, there: list[bool], mode: str) -> None:
    at = [place for place, is_there in enumerate(there) if is_there]
    for causal in (False, True):
        fuser = make(causal).train(mode == "train")
        assert influence(fuser, there, of=at[0], on=at[-1]) > 1e-4
        backward = influence(fuser, there, of=at[-1], on=at[0])
        assert backward == 0 if causal else backward > 1e-4
        for missing in set(range(5)) - set(at):
            assert max(influence(fuser, there, of=missing, on=place) for place in at) == 0


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_not_there_may_hold_anything_and_be_left_out(make: Make, causal: bool) -> None:
    fuser = make(causal).eval()
    torch.manual_seed(3)
    tokens, there = torch.randn(3, 5, 16), torch.tensor([[False, True, True, False, True]]).expand(3, -1)
    with torch.no_grad():
        out = fuser(tokens, there, PLACES)[there]
        other = torch.where(there[..., None], tokens, 1e3)
        torch.testing.assert_close(fuser(other, there, PLACES)[there], out, atol=1e-5, rtol=0)
        # Left out, with the others at the places that they had.
        kept = there[0]
        alone = fuser(tokens[:, kept], torch.ones(3, 3, dtype=torch.bool), PLACES[kept])
        torch.testing.assert_close(alone.flatten(0, 1), out, atol=1e-5, rtol=0)
    assert out.isfinite().all()


def test_a_decoder_reads_its_places(qwen3: Path) -> None:
    """Moved together they stay as they are (rotary positions); moved apart they do not."""
    fuser = decoder(qwen3).eval()
    tokens, there = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        out = fuser(tokens, there, PLACES[:3])
        torch.testing.assert_close(fuser(tokens, there, PLACES[:3] + 7), out, atol=1e-5, rtol=0)
        assert (fuser(tokens, there, torch.tensor([16, 17, 30])) - out).abs().max() > 1e-3


def test_the_pretrained_weights_are_used_without_the_vocabulary(qwen3: Path) -> None:
    from transformers import AutoModel

    original, ours = AutoModel.from_pretrained(qwen3).state_dict(), decoder(qwen3).model.state_dict()
    assert ours.pop("embed_tokens.weight").shape == (1, 16)
    original.pop("embed_tokens.weight")
    assert ours.keys() == original.keys()
    assert all(torch.equal(ours[name], original[name]) for name in ours)


def test_what_is_no_bidirectional_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its attention cannot be made causal"):
        load_decoder(str(tiny_bert(tmp_path / "bert")), causal=True)
    with pytest.raises(UserError, match="no such folder"):
        load_decoder("/no/such/decoder", causal=False)
    from transformers import T5Config, T5Model

    T5Model(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="not a decoder that reads embeddings at given positions"):
        load_decoder(str(tmp_path), causal=False)


def fusion(**changes: Any) -> FusionStudent:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "dim": 8,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "queries": 2,
        "dropout": 0.0,
    }
    return FusionStudent(widths={"audio": 3, "image": 4, "text": 3}, **{**settings, **changes}).eval()


@pytest.mark.parametrize("causal", [False, True])
def test_missing_modalities_shift_nothing(qwen3: Path, causal: bool) -> None:
    """Tokens keep their places whatever is missing before them, and whether there is an instruction."""
    student = fusion(decoder=decoder(qwen3, causal=causal), places={"text": 2}, prompt_width=3)
    assert student.places == {"audio": 1, "image": 2, "text": 2}
    seen: list[torch.Tensor] = []
    student.fuser.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[2]))
    features = {"audio": torch.randn(2, 1, 3), "image": torch.randn(2, 5, 4), "text": torch.randn(2, 2, 3)}
    present = torch.tensor([[True, True, True], [False, False, True]])
    prompt = (torch.randn(2, 3, 3), torch.tensor([True, False]))
    with torch.no_grad():
        plain, asked = student(features, present), student(features, present, prompt)
    assert seen[0].tolist() == list(range(PROMPT_PLACES, PROMPT_PLACES + 5))
    assert seen[1].tolist() == list(range(PROMPT_PLACES - 3, PROMPT_PLACES + 5))
    torch.testing.assert_close(plain[1], asked[1], atol=1e-5, rtol=0)
    assert (plain[0] - asked[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="an instruction of 17 tokens"):
        student(features, present, (torch.randn(2, 17, 3), prompt[1]))


def test_an_instruction_is_seen_and_left_out_of_the_mean() -> None:
    student = fusion(prompt_width=3, dim=16)
    seen: list[torch.Tensor] = []
    student.fuser.register_forward_hook(lambda module, arguments, out: seen.append(out))
    features = {"audio": torch.randn(1, 1, 3), "image": torch.zeros(1, 1, 4), "text": torch.randn(1, 1, 3)}
    out = student(features, torch.tensor([[True, False, True]]), (torch.randn(1, 1, 3), torch.tensor([True])))
    # Behind the prompt: audio, two empty places of the perceiver, text.
    torch.testing.assert_close(out[0], torch.tanh(seen[0][0, [1, 4]]).mean(0))


def test_every_frame_and_patch_goes_through_the_perceiver() -> None:
    student = fusion()
    image = torch.randn(1, 3 * 5, 4, requires_grad=True)  # three frames of five patches
    features = {"audio": torch.zeros(1, 1, 3), "image": image, "text": torch.randn(1, 1, 3)}
    student(features, torch.tensor([[False, True, True]])).sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().sum(-1) > 0).all()


@pytest.fixture(scope="module")
def store(world: World) -> FeatureStore:
    return FeatureStore.load(world.content, pd.Index(world.ids))


def build(world: World, qwen3: Path, **changes: Any) -> RecDistillStudent:
    config = {
        "kind": "fusion",
        "skip": None,
        "dim": 12,
        "heads": 2,
        "queries": 3,
        "fuser": str(qwen3),
        "lora_rank": 2,
        **changes,
    }
    return build_student(StudentConfig.model_validate(config), content=world.content, seed=3)


def step(student: RecDistillStudent, store: FeatureStore) -> None:
    """One step of training."""
    optimizer = torch.optim.SGD([weight for weight in student.parameters() if weight.requires_grad], lr=0.1)
    torch.manual_seed(0)
    student.train()(*store.batch(torch.arange(len(store)))).square().mean().backward()
    optimizer.step()
    student.eval()


@pytest.mark.parametrize("training", ["full", "lora", "frozen"])
def test_what_is_trained(world: World, store: FeatureStore, qwen3: Path, training: str) -> None:
    student = build(world, qwen3, fuser_training=training)
    assert student.body.fuser.model.config.is_causal is False
    if training == "lora":  # adapters start as nothing
        tokens, there = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
        torch.testing.assert_close(
            student.body.fuser(tokens, there, PLACES[:3]), decoder(qwen3)(tokens, there, PLACES[:3])
        )
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    step(student, store)
    step(student, store)  # the adapters' first factor has a gradient once the second is not zero
    changed = {name for name, weight in student.state_dict().items() if not torch.equal(weight, before[name])}
    of_fuser = {name for name in before if name.startswith("body.fuser")}
    expected = {
        "full": {name for name in of_fuser if "embed_tokens" not in name},
        "lora": {name for name in of_fuser if "lora_" in name},
        "frozen": set(),
    }[training]
    assert changed & of_fuser == expected
    assert len(expected) == {"full": 2 * 11 + 1, "lora": 2 * 7 * 2, "frozen": 0}[training]
    assert {"body.adapters.text.weight", "body.kinds.text", "body.perceiver.queries", "body.out.weight"} <= changed
    assert all(weight.grad is not None for weight in student.parameters() if weight.requires_grad)


LOAD = """
import sys
import numpy as np
import recdistill
from transformers import AutoModel
for folder in sys.argv[1:]:
    student = AutoModel.from_pretrained(folder)
    np.save(folder + ".npy", student.encode([{"text": {"title": "Heat"}}, {"structured": {"genre": ["War"]}}]))
    print(sorted(name for name, weight in student.named_parameters() if not weight.requires_grad))
"""


def test_saved_it_loads_without_the_decoders_folder(world: World, store: FeatureStore, tmp_path: Path) -> None:
    students = {how: build(world, tiny_qwen3(tmp_path / "qwen3"), fuser_training=how) for how in ("full", "lora")}
    for how, student in students.items():
        step(student, store)
        student.save_pretrained(tmp_path / how)
        assert str(tmp_path / "qwen3") not in (tmp_path / how / "config.json").read_text()
    shutil.rmtree(tmp_path / "qwen3")
    done = subprocess.run([sys.executable, "-c", LOAD, *students], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for (how, student), printed in zip(students.items(), done.stdout.splitlines(), strict=True):
        expected = student.encode([{"text": {"title": "Heat"}}, {"structured": {"genre": ["War"]}}])
        np.testing.assert_allclose(np.load(tmp_path / f"{how}.npy"), expected, atol=1e-6)
        assert printed == str(sorted(name for name, weight in student.named_parameters() if not weight.requires_grad))
        again = RecDistillStudent.from_pretrained(tmp_path / how)
        before, after = student.state_dict(), again.state_dict()
        assert before.keys() == after.keys()
        assert all(before[name].equal(after[name]) for name in before)
        np.testing.assert_allclose(again.encode_store(store), student.encode_store(store), atol=1e-6)


@pytest.mark.parametrize("fuser", ["small", "qwen3"])
def test_gradient_checkpointing_changes_no_gradient(
    world: World, store: FeatureStore, qwen3: Path, fuser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"fuser": None, "width": 16} if fuser == "small" else {}
    gradients, calls = [], []
    for switched in (False, True):
        student = build(world, qwen3, modality_dropout=0, **changes).train()
        of_small, layers = fuser == "small", getattr(student.body.fuser, "model", student.body.fuser).layers
        (layers[0].norm1 if of_small else layers[0].input_layernorm).register_forward_pre_hook(
            lambda *_, into=switched: calls.append(into)
        )
        if switched:
            student.gradient_checkpointing_enable()
        torch.manual_seed(0)
        student(*store.batch(torch.arange(len(store)))).square().sum().backward()
        gradients.append({n: w.grad for n, w in student.named_parameters() if w.grad is not None})
    assert calls.count(False) == 1 and calls.count(True) == 2  # once more on the way back
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_causal_is_a_setting_of_the_small_one_too(world: World, store: FeatureStore) -> None:
    students = [
        build_student(
            StudentConfig.model_validate(
                {"kind": "fusion", "skip": None, "dim": 8, "width": 16, "attention": attention}
            ),
            content=world.content,
            seed=0,
        ).eval()
        for attention in ("bidirectional", "causal")
    ]
    assert [student.body.fuser.causal for student in students] == [False, True]
    one, other = (student.encode_store(store) for student in students)
    assert np.isfinite(other).all()
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fuser_training": "lora"}, "is for a fuser by name"),
        ({"fuser": "x", "kind": "linear"}, "needs kind 'fusion'"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentConfig.model_validate({"kind": "fusion", **changes})


def test_heads_that_do_not_divide_the_decoders_width(world: World, qwen3: Path) -> None:
    with pytest.raises(UserError, match=r"student.heads \(3\) does not divide the fuser's width \(16\)"):
        build(world, qwen3, heads=3, width=12)
