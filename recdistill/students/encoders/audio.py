"""Audio towers: fixed log-mel statistics, and any Hugging Face audio model (CLAP, AST) with its feature extractor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.config import PACKAGED, AudioEncoderConfig
from recdistill.students.encoders.media import CHUNK_SECONDS, AudioSource, MediaLimits, Source, decode_audio, pieces
from recdistill.students.encoders.source import combine, find_model, folder_digest, loading, unknown_packaged
from recdistill.students.encoders.tower import MediaTower, decode_all

_VERSION = 1
_RATE, _WINDOW, _HOP, _BANDS = 16_000, 512, 256, 64
_LOW_HZ, _HIGH_HZ = 40.0, 7_800.0
_FLOOR = 1e-7
_PIECES_AT_ONCE = 8


class LogMel:
    """No weights: of 64 log-mel bands at 16 kHz their mean, spread and mean change over time; 192 wide.

    A small stand-in where no audio model is at hand: it knows pitch, timbre, loudness and their movement.
    """

    micro_batch = 16

    def __init__(self, *, limits: MediaLimits) -> None:
        self._limits = limits
        self.identity = combine({"kind": "logmel", "version": _VERSION})

    def load(self) -> None:
        """Load the weights."""
        _ = self._filters

    def encode_decodable(self, units: Sequence[Source]) -> tuple[np.ndarray, list[str | None]]:
        """[m, 1, 192] float32 of what can be decoded, and every unit's fault."""
        waves, faults = decode_all(
            lambda unit: decode_audio(cast(AudioSource, unit), rate=_RATE, limits=self._limits), units
        )
        vectors = [_mean_over_pieces(self._statistics, pieces(wave, rate=_RATE)) for wave in waves]
        return (torch.stack(vectors)[:, None].numpy() if vectors else np.zeros((0, 1, 3 * _BANDS), np.float32)), faults

    def _statistics(self, waves: Tensor) -> Tensor:
        """[p, samples] → [p, 192]."""
        window = torch.hann_window(_WINDOW)
        spectrum = torch.stft(waves, _WINDOW, _HOP, window=window, center=False, return_complex=True).abs().square()
        bands = torch.log10(self._filters @ spectrum + _FLOOR)  # [p, 64, frames]
        change = bands.diff(dim=-1).abs().mean(-1)
        return torch.cat([bands.mean(-1), bands.std(-1), change], dim=-1)

    @cached_property
    def _filters(self) -> Tensor:
        """[64, 257] triangular filters, evenly spaced in mel (HTK's formula)."""
        edges = 700 * (
            10 ** (torch.linspace(_mel(_LOW_HZ), _mel(_HIGH_HZ), _BANDS + 2, dtype=torch.float64) / 2595) - 1
        )
        hertz = torch.linspace(0, _RATE / 2, _WINDOW // 2 + 1, dtype=torch.float64)
        rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
        return torch.minimum(rising, falling).clamp(min=0).float()


class HuggingFaceAudio:
    """A Hugging Face audio model, or the audio half of CLAP: its pooled output, averaged over 10 s pieces."""

    micro_batch = 4

    def __init__(self, folder: Path, *, limits: MediaLimits) -> None:
        self._folder, self._limits = folder, limits
        self.identity = combine(
            {"kind": "audio", "files": folder_digest(folder), "seconds": CHUNK_SECONDS, "version": _VERSION}
        )

    def load(self) -> None:
        """Load the weights."""
        _ = self._loaded

    def encode_decodable(self, units: Sequence[Source]) -> tuple[np.ndarray, list[str | None]]:
        """[m, 1, W] float32 of what can be decoded, and every unit's fault."""
        extractor, _ = self._loaded
        rate = int(extractor.sampling_rate)
        waves, faults = decode_all(
            lambda unit: decode_audio(cast(AudioSource, unit), rate=rate, limits=self._limits), units
        )
        vectors = [_mean_over_pieces(self._pooled, pieces(wave, rate=rate)) for wave in waves]
        return (torch.stack(vectors)[:, None].numpy() if vectors else np.zeros((0, 1, 1), np.float32)), faults

    def _pooled(self, waves: Tensor) -> Tensor:
        """[p, samples] → [p, W]."""
        extractor, model = self._loaded
        inputs = dict(extractor(list(waves.numpy()), sampling_rate=extractor.sampling_rate, return_tensors="pt"))
        if "is_longer" in inputs:  # CLAP's extractor calls one piece of a batch, drawn at random, longer than it is
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]), dtype=torch.bool)
        output = model(**inputs)
        pooled = getattr(output, "pooler_output", None)
        vectors: Tensor = output.last_hidden_state.mean(1) if pooled is None else pooled
        return vectors.float()

    @cached_property
    def _loaded(self) -> tuple[Any, nn.Module]:
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, ClapAudioConfig, ClapAudioModel

        with loading(self._folder, "an audio model with its feature extractor"):
            extractor = AutoFeatureExtractor.from_pretrained(self._folder)
            half = isinstance(
                AutoConfig.from_pretrained(self._folder), ClapAudioConfig
            )  # AutoModel knows whole CLAPs only
            kind = ClapAudioModel if half else AutoModel
            model = kind.from_pretrained(self._folder, use_safetensors=True, dtype=torch.float32)
        if hasattr(model, "text_model"):
            model = model.audio_model
        return extractor, model.eval().requires_grad_(False)


def audio_tower(config: AudioEncoderConfig, *, max_bytes: int) -> MediaTower:
    """The audio tower of a name.

    Raises:
        UserError: there is no such model.
    """
    limits = MediaLimits(max_bytes=max_bytes, max_seconds=config.max_seconds)
    if config.name == f"{PACKAGED}logmel":
        return LogMel(limits=limits)
    if config.name.startswith(PACKAGED):
        raise unknown_packaged(config.name, "logmel")
    return HuggingFaceAudio(find_model(config.name), limits=limits)


def _mean_over_pieces(encode: Any, chunks: np.ndarray) -> Tensor:
    """[p, samples] → [W], a few pieces at once so that a long clip does not fill the memory."""
    parts = [
        encode(torch.from_numpy(chunks[start : start + _PIECES_AT_ONCE]))
        for start in range(0, len(chunks), _PIECES_AT_ONCE)
    ]
    mean: Tensor = torch.cat(parts).mean(0)
    return mean


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
