"""Audio towers: any Hugging Face audio model (CLAP, AST) with its feature extractor, and the packaged statistics.

Shapes: p pieces of 10 s, W the tower's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.config import PACKAGED, AudioEncoderConfig
from recdistill.students.encoders.huggingface import build_model, model_settings, read_model
from recdistill.students.encoders.logmel import LogMel
from recdistill.students.encoders.media import CHUNK_SECONDS, AudioSource, MediaLimits, Source, decode_audio, pieces
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.source import find_model, folder_digest, loading, tower_identity, unknown_packaged
from recdistill.students.encoders.tower import MediaTower, NetworkTower

_VERSION = 1
_WHAT = "an audio model with its feature extractor"


class AudioInput:
    """A clip, cut into pieces of 10 s, as the folder's feature extractor makes them."""

    def __init__(self, folder: Path, *, limits: MediaLimits) -> None:
        from transformers import AutoFeatureExtractor

        with loading(folder, _WHAT):
            self._extractor = AutoFeatureExtractor.from_pretrained(folder)
            self.rate = int(self._extractor.sampling_rate)
        self._limits = limits

    def __call__(self, unit: Source) -> dict[str, Tensor]:
        """See :class:`recdistill.students.encoders.tower.MediaInput`."""
        chunks = pieces(decode_audio(cast(AudioSource, unit), rate=self.rate, limits=self._limits), rate=self.rate)
        inputs = dict(self._extractor(list(chunks), sampling_rate=self.rate, return_tensors="pt"))
        if "is_longer" in inputs:  # CLAP's extractor calls one piece of a batch, drawn at random, longer than it is
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]), dtype=torch.bool)
        return inputs


class AudioModel(Network):
    """A model's pooled output, or else the mean of its tokens."""

    def __init__(self, model: nn.Module, *, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.architecture = model, {"settings": dict(settings)}

    def forward(self, **inputs: Tensor) -> Tensor:
        """[p, …] as the model names its inputs → [p, 1, W]."""
        output = self.model(**inputs)
        pooled = getattr(output, "pooler_output", None)
        vectors: Tensor = output.last_hidden_state.mean(1) if pooled is None else pooled
        return vectors.float()[:, None]


class HuggingFaceAudio(NetworkTower):
    """A Hugging Face audio model, or the audio half of CLAP; the mean over a clip's pieces.

    Args:
        folder: of feature extractor and settings, and of the weights unless ``network`` has them.
    """

    micro_batch, pieces_at_once = 4, 8

    def __init__(self, folder: Path, *, limits: MediaLimits, network: Network | None = None) -> None:
        self._folder, self._limits = folder, limits
        self._trained = network is not None
        if network is not None:
            self.network = network

    @cached_property
    def identity(self) -> str:
        files = folder_digest(self._folder)
        parts: dict[str, str | float] = {"kind": "audio", "files": files, "seconds": CHUNK_SECONDS, "version": _VERSION}
        return tower_identity(parts, trained=self._trained)

    @cached_property
    def input(self) -> AudioInput:
        return AudioInput(self._folder, limits=self._limits)

    @cached_property
    def network(self) -> Network:
        with loading(self._folder, _WHAT):
            model, settings = read_model(self._folder, "audio"), model_settings(self._folder)
        return AudioModel(model, settings=settings).eval()

    @property
    def trained(self) -> Trained:
        return Trained(self.network, self._folder)

    def sample(self) -> dict[str, Tensor]:
        return self.input((np.zeros(self.input.rate, dtype=np.float32), self.input.rate))


def audio_tower(
    config: AudioEncoderConfig, *, max_bytes: int, folder: Path | None = None, network: Network | None = None
) -> MediaTower:
    """The audio tower of a name.

    Args:
        folder, network: of a tower that has been trained: where its feature extractor is, and its weights.

    Raises:
        UserError: there is no such model.
    """
    limits = MediaLimits(max_bytes=max_bytes, max_seconds=config.max_seconds)
    if config.name == f"{PACKAGED}logmel":
        return LogMel(limits=limits)
    if folder is None and config.name.startswith(PACKAGED):
        raise unknown_packaged(config.name, "logmel")
    return HuggingFaceAudio(folder or find_model(config.name), limits=limits, network=network)


def build_audio(architecture: Mapping[str, Any]) -> Network:
    """The network of that architecture, its weights to be loaded."""
    settings = architecture["settings"]
    return AudioModel(build_model(settings, "audio"), settings=settings)
