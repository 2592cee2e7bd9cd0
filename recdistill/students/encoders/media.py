"""Reading pictures and sounds that may be corrupt, empty or hostile."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.signal import resample_poly

# Formats with decoders of their own; others (EPS, PDF …) would start foreign programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
CHUNK_SECONDS = 10.0

Chosen = TypeVar("Chosen")
Waveform = tuple[np.ndarray, int]
ImageSource = bytes | Path | Image.Image
AudioSource = bytes | Path | Waveform
Source = ImageSource | AudioSource


class BadMediaError(Exception):
    """A picture or sound that cannot be used; the message says why. Never the end of a run."""


@dataclass(frozen=True)
class MediaLimits:
    """What is refused unread: a small file can unpack to more than the memory holds."""

    max_bytes: int = 64 << 20
    max_pixels: int = 64_000_000
    max_seconds: float = 900.0


def content_key(source: bytes | Path, *, limits: MediaLimits) -> bytes:
    """16 bytes that two files share if they have the same content.

    Raises:
        BadMediaError: the file is missing, empty or too large.
    """
    return hashlib.blake2b(read_bytes(source, limits=limits), digest_size=16).digest()


def read_bytes(source: bytes | Path, *, limits: MediaLimits) -> bytes:
    """The file's bytes.

    Raises:
        BadMediaError: the file is missing, empty or too large.
    """
    if isinstance(source, Path):
        try:
            if source.stat().st_size > limits.max_bytes:
                raise BadMediaError(f"file of {source.stat().st_size:,} bytes, more than {limits.max_bytes:,}")
            source = source.read_bytes()
        except OSError as error:
            raise BadMediaError(f"{error.filename}: not readable: {error.strerror or error}") from error
    if not source:
        raise BadMediaError("empty file")
    if len(source) > limits.max_bytes:
        raise BadMediaError(f"{len(source):,} bytes, more than {limits.max_bytes:,}")
    return source


def decode_image(source: ImageSource, *, limits: MediaLimits) -> Image.Image:
    """An RGB picture, upright, transparent parts white; the first frame of an animation.

    Raises:
        BadMediaError: it cannot be decoded, or is too large.
    """
    try:
        image = source if isinstance(source, Image.Image) else _open(read_bytes(source, limits=limits))
        width, height = image.size
        if width * height > limits.max_pixels:
            raise BadMediaError(f"{width} × {height} pixels, more than {limits.max_pixels:,}")
        if not width or not height:
            raise BadMediaError("no pixels")
        return _to_rgb(ImageOps.exif_transpose(image))
    except (BadMediaError, KeyboardInterrupt):
        raise
    except Exception as error:  # decoders of hostile files raise anything
        raise BadMediaError(f"not a readable image: {error}") from error


def decode_audio(source: AudioSource, *, rate: int, limits: MediaLimits) -> np.ndarray:
    """[samples] float32, mono, at ``rate`` Hz.

    Raises:
        BadMediaError: it cannot be decoded, is empty, too long, or has values that are not finite.
    """
    try:
        if isinstance(source, tuple):
            wave, given = np.asarray(source[0], dtype=np.float32), int(source[1])
            if wave.ndim == 2:  # channels are the shorter axis
                wave = wave.mean(axis=int(np.argmin(wave.shape)))
            if wave.ndim != 1 or given <= 0:
                raise BadMediaError(
                    f"a waveform is [samples] or [channels, samples] with a positive rate, not {wave.shape} at {given}"
                )
            _check_length(len(wave), given, limits)
        else:
            wave, given = _read_wave(read_bytes(source, limits=limits), limits)
    except (BadMediaError, KeyboardInterrupt):
        raise
    except Exception as error:  # decoders of hostile files raise anything
        raise BadMediaError(f"not a readable sound: {error}") from error
    if not len(wave):
        raise BadMediaError("no samples")
    if not np.isfinite(wave).all():
        raise BadMediaError("samples that are not finite")
    if given != rate:
        common = math.gcd(given, rate)
        wave = resample_poly(wave, rate // common, given // common)
    return np.ascontiguousarray(wave, dtype=np.float32)


def pieces(wave: np.ndarray, *, rate: int) -> np.ndarray:
    """[n, 10 s] pieces of equal length, the last repeated until it is full (METHOD 2); a rest below 1 s is dropped."""
    length = int(CHUNK_SECONDS * rate)
    starts = [start for start in range(0, len(wave), length) if start == 0 or len(wave) - start >= rate]
    return np.stack([np.resize(wave[start : start + length], length) for start in starts])


def spread(sequence: Sequence[Chosen], most: int) -> list[Chosen]:
    """At most so many of them, evenly spaced, first and last included."""
    if len(sequence) <= most:
        return list(sequence)
    return [sequence[round(i)] for i in np.linspace(0, len(sequence) - 1, most)]


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:  # its message holds a memory address
        raise BadMediaError("not an image of a known format") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadMediaError(f"pixels of mode {image.mode} have no defined range")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _read_wave(data: bytes, limits: MediaLimits) -> Waveform:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        _check_length(file.frames, file.samplerate, limits)
        blocks = [block.mean(axis=1) for block in file.blocks(blocksize=1 << 20, dtype="float32", always_2d=True)]
        return (np.concatenate(blocks) if blocks else np.zeros(0, np.float32)), file.samplerate


def _check_length(samples: int, rate: int, limits: MediaLimits) -> None:
    if samples > limits.max_seconds * rate:
        raise BadMediaError(f"{samples / rate:.0f} s long, more than {limits.max_seconds:.0f} s")
