"""Vision towers: any Hugging Face vision model with its own image processor, and the packaged one.

Shapes: n pictures, T tokens a picture, W the tower's width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torch import Tensor, nn

from recdistill.students.config import PACKAGED, ImageEncoderConfig
from recdistill.students.encoders.efficientnet import EfficientNetLite, EfficientNetTower
from recdistill.students.encoders.huggingface import build_model, model_settings, read_model
from recdistill.students.encoders.media import ImageSource, MediaLimits, Source, decode_image
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.source import find_model, folder_digest, loading, tower_identity, unknown_packaged
from recdistill.students.encoders.tower import MediaInput, NetworkTower

_VERSION = 1
_LITE = f"{PACKAGED}efficientnet-lite0"
_WHAT = "a vision model with its image processor"


class ImageInput:
    """A picture as the folder's processor makes it: [1, 3, height, width]."""

    def __init__(self, folder: Path, *, limits: MediaLimits) -> None:
        from transformers import AutoImageProcessor

        with loading(folder, _WHAT):
            self._processor = AutoImageProcessor.from_pretrained(folder)
        self._limits = limits

    def __call__(self, unit: Source) -> dict[str, Tensor]:
        """See :class:`recdistill.students.encoders.tower.MediaInput`."""
        image = decode_image(cast(ImageSource, unit), limits=self._limits)
        return {"pixel_values": self._processor(images=[image], return_tensors="pt")["pixel_values"]}


class VisionModel(Network):
    """Pooled: a model's own pooled output, or else the mean of its tokens. Patches: all its last hidden states."""

    def __init__(self, model: nn.Module, *, settings: Mapping[str, Any], patches: bool) -> None:
        super().__init__()
        self.model, self._patches, self.architecture = model, patches, {"settings": dict(settings)}

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        """[n, 3, height, width] → [n, T, W]."""
        output = self.model(pixel_values=pixel_values)
        hidden: Tensor = output.last_hidden_state
        if hidden.ndim == 4:  # a convolutional network's map [n, W, h, w]
            hidden = hidden.flatten(2).transpose(1, 2)
        if self._patches:
            return hidden.float()
        pooled = getattr(output, "pooler_output", None)
        return (hidden.mean(1, keepdim=True) if pooled is None else pooled.reshape(len(hidden), 1, -1)).float()


class HuggingFaceImage(NetworkTower):
    """A Hugging Face vision model, or the vision half of a CLIP-like pair.

    Args:
        folder: of image processor and settings, and of the weights unless ``network`` has them.
    """

    micro_batch = pieces_at_once = 8

    def __init__(
        self, folder: Path, config: ImageEncoderConfig, *, limits: MediaLimits, network: Network | None = None
    ) -> None:
        self._folder, self._config, self._limits = folder, config, limits
        self._trained = network is not None
        if network is not None:
            self.network = network

    @cached_property
    def identity(self) -> str:
        files = folder_digest(self._folder)
        parts: dict[str, str | float] = {
            "kind": "image",
            "files": files,
            "tokens": self._config.tokens,
            "version": _VERSION,
        }
        return tower_identity(parts, trained=self._trained)

    @cached_property
    def input(self) -> MediaInput:
        return ImageInput(self._folder, limits=self._limits)

    @cached_property
    def network(self) -> Network:
        patches = self._config.tokens == "patches"
        with loading(self._folder, _WHAT):
            model, settings = read_model(self._folder, "vision"), model_settings(self._folder)
        return VisionModel(model, settings=settings, patches=patches).eval()

    @property
    def trained(self) -> Trained:
        return Trained(self.network, self._folder)

    def sample(self) -> dict[str, Tensor]:
        return self.input(Image.new("RGB", (8, 8)))


def image_tower(
    config: ImageEncoderConfig, *, max_bytes: int, folder: Path | None = None, network: Network | None = None
) -> NetworkTower:
    """The vision tower of a name.

    Args:
        folder, network: of a tower that has been trained: where its image processor is, and its weights.

    Raises:
        UserError: there is no such model.
    """
    limits = MediaLimits(max_bytes=max_bytes, max_pixels=math.ceil(config.max_megapixels * 1e6))
    if config.name == _LITE:
        return EfficientNetTower(config, limits=limits, network=network)
    if folder is None and config.name.startswith(PACKAGED):
        raise unknown_packaged(config.name, "efficientnet-lite0")
    return HuggingFaceImage(folder or find_model(config.name), config, limits=limits, network=network)


def build_image(architecture: Mapping[str, Any], config: ImageEncoderConfig) -> Network:
    """The network of that architecture, its weights to be loaded."""
    patches = config.tokens == "patches"
    if config.name == _LITE:
        return EfficientNetLite(pixels=config.pixels, patches=patches)
    settings = architecture["settings"]
    return VisionModel(build_model(settings, "vision"), settings=settings, patches=patches)
