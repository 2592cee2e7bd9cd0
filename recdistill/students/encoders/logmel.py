"""The packaged audio tower: fixed statistics of a log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from recdistill.students.encoders.media import AudioSource, MediaLimits, Source, decode_audio, pieces
from recdistill.students.encoders.source import combine
from recdistill.students.encoders.tower import decode_all

_VERSION = 1
_RATE, _WINDOW, _HOP, _BANDS = 16_000, 512, 256, 64
_LOW_HZ, _HIGH_HZ = 40.0, 7_800.0
_FLOOR = 1e-7
_PIECES_AT_ONCE = 8  # so that a long clip does not fill the memory


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
        vectors = [self._mean_over_pieces(pieces(wave, rate=_RATE)) for wave in waves]
        return (torch.stack(vectors)[:, None].numpy() if vectors else np.zeros((0, 1, 3 * _BANDS), np.float32)), faults

    def _mean_over_pieces(self, chunks: np.ndarray) -> Tensor:
        """[p, samples] → [192]."""
        parts = [
            self._statistics(torch.from_numpy(chunks[start : start + _PIECES_AT_ONCE]))
            for start in range(0, len(chunks), _PIECES_AT_ONCE)
        ]
        return torch.cat(parts).mean(0)

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


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
