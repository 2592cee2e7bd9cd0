"""Pictures and sounds that are corrupt, empty or hostile."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_world import png, wav

from recdistill.students.encoders.media import (
    BadMediaError,
    MediaLimits,
    content_key,
    decode_audio,
    decode_image,
    pieces,
    spread,
)

LIMITS = MediaLimits()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has side × side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


JPEG = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "known format"),
        (JPEG[: len(JPEG) // 2], "not a readable image"),
        (bomb(100_000), "pixels"),
        (bomb(9_000), "9000 × 9000 pixels, more than"),
        (bomb(50), "not a readable image"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "mode F"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "known format"),
        (Path("/nowhere/at/all.png"), "not readable"),
    ],
)
def test_bad_pictures_say_why(data: bytes | Path, reason: str) -> None:
    with pytest.raises(BadMediaError, match=reason):
        decode_image(data, limits=LIMITS)


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(0))
    with pytest.raises(BadMediaError, match="bytes, more than 100"):
        decode_image(path, limits=MediaLimits(max_bytes=100))
    with pytest.raises(BadMediaError, match="bytes, more than 100"):
        content_key(png(0), limits=MediaLimits(max_bytes=100))


def test_pictures_of_all_kinds_become_rgb() -> None:
    grey = np.array([[0, 65535], [32896, 257]], dtype=np.uint16)
    transparent = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    kinds = {
        "16 bit": (encoded(Image.fromarray(grey)), [[0, 255], [128, 1]]),
        "transparent": (encoded(transparent), [[255, 255], [255, 255]]),
        "palette": (encoded(Image.new("P", (2, 2), 0)), [[0, 0], [0, 0]]),
    }
    for name, (data, red) in kinds.items():
        image = decode_image(data, limits=LIMITS)
        assert image.mode == "RGB", name
        assert np.asarray(image)[..., 0].tolist() == red, name


def test_pictures_stand_upright() -> None:
    image, exif = Image.new("RGB", (4, 2)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, format="JPEG", exif=exif)
    assert decode_image(file.getvalue(), limits=LIMITS).size == (2, 4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"RIFFnothing", "not a readable sound"),
        (wav(1)[:20], "not a readable sound"),
        ((np.array([0.1, np.nan]), 8000), "not finite"),
        ((np.zeros(0), 8000), "no samples"),
        ((np.zeros((2, 2, 2)), 8000), "not"),
        ((np.zeros(10), 0), "positive rate"),
        ((np.zeros(8000 * 901, np.float32), 8000), "901 s long"),
    ],
)
def test_bad_sounds_say_why(data: bytes | tuple[np.ndarray, int], reason: str) -> None:
    with pytest.raises(BadMediaError, match=reason):
        decode_audio(data, rate=8000, limits=LIMITS)


def test_stereo_is_mixed_and_the_rate_changed() -> None:
    time = np.arange(8000) / 8000
    stereo = np.stack([np.sin(2 * np.pi * 100 * time), np.zeros(8000)], axis=1).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, stereo, 8000, format="WAV", subtype="FLOAT")
    wave = decode_audio(file.getvalue(), rate=16000, limits=LIMITS)
    expected = 0.5 * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
    assert wave.dtype == np.float32
    assert np.abs(wave - expected)[200:-200].max() < 1e-2
    np.testing.assert_allclose(decode_audio((stereo.T, 8000), rate=8000, limits=LIMITS), stereo.mean(axis=1))


def test_pieces_repeat_short_sounds_and_cut_long_ones() -> None:
    short = pieces(np.arange(30, dtype=np.float32), rate=10)
    assert short.shape == (1, 100)
    assert short[0, :61].tolist() == [*range(30), *range(30), 0]
    assert pieces(np.zeros(100), rate=10).shape == (1, 100)
    assert pieces(np.zeros(109), rate=10).shape == (1, 100)  # a rest below one second
    long = pieces(np.arange(215, dtype=np.float32), rate=10)
    assert long.shape == (3, 100)
    assert long[2, :16].tolist() == [*range(200, 215), 200]


def test_equal_content_has_one_key(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    keys = [content_key(source, limits=LIMITS) for source in (png(3), path, png(4))]
    assert keys[0] == keys[1] != keys[2]
    assert all(len(key) == 16 for key in keys)


def test_spread_keeps_first_and_last() -> None:
    assert spread("abcdefg", 3) == ["a", "d", "g"]
    assert spread("ab", 3) == ["a", "b"]
    assert spread("abc", 1) == ["a"]
