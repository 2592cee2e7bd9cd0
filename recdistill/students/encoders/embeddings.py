"""The token embeddings of a language model, read alone: the rest of a large one would not fit, or not be worth it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from recdistill.students.encoders.huggingface import build_model, model_settings


def read_embeddings(folder: Path) -> nn.Embedding:
    """The folder's input embeddings in float32, frozen. Memory: theirs alone, 4 · V · W bytes.

    A constant factor that some models put on them is left out: the featurizer scales anyway.

    Raises:
        OSError, ValueError, KeyError, AttributeError: the folder holds something else.
    """
    with torch.device("meta"):
        model = build_model(model_settings(folder), "text")
    wanted = model.get_input_embeddings().weight  # type: ignore[operator]
    name = next(name for name, weight in model.named_parameters() if weight is wanted)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                whole = key == name or key.endswith(f".{name}")  # the file may name it as part of a larger model
                if whole and file.get_slice(key).get_shape() == list(wanted.shape):
                    return nn.Embedding.from_pretrained(file.get_tensor(key).float())
    raise ValueError(f"no weights {name} of shape {tuple(wanted.shape)}")
