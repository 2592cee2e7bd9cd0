"""Hugging Face models as towers: read with their weights, or built empty for weights that come from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

Half = Literal["text", "vision", "audio"]


def read_model(folder: Path, half: Half) -> nn.Module:
    """The folder's model in float32 with its weights, frozen; of a pair of towers (CLIP, SigLIP, CLAP) one half.

    Raises:
        OSError, ValueError, KeyError, AttributeError: the folder holds something else.
    """
    from transformers import AutoConfig, AutoModel, ClapAudioConfig, ClapAudioModel

    # AutoModel knows whole CLAPs only.
    kind = ClapAudioModel if isinstance(AutoConfig.from_pretrained(folder), ClapAudioConfig) else AutoModel
    return _part(kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32), half)


def build_model(settings: Mapping[str, Any], half: Half) -> nn.Module:
    """The same architecture, from what :func:`model_settings` gave; its weights mean nothing yet."""
    from transformers import AutoConfig, AutoModel, ClapAudioConfig, ClapAudioModel

    config = AutoConfig.for_model(**settings)
    if isinstance(config, ClapAudioConfig):
        return _part(ClapAudioModel(config), half)
    return _part(AutoModel.from_config(config, dtype=torch.float32), half)


def model_settings(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``, complete and JSON-able."""
    from transformers import AutoConfig

    settings: dict[str, Any] = json.loads(AutoConfig.from_pretrained(folder).to_json_string(use_diff=False))
    return settings


def _part(model: Any, half: Half) -> nn.Module:
    if hasattr(model, "text_model"):
        model = getattr(model, f"{half}_model")
    elif half == "text" and model.config.is_encoder_decoder:
        model = model.get_encoder()
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # a decoder's keys and values of earlier tokens: nothing is generated
    found: nn.Module = model.eval().requires_grad_(False)
    return found
