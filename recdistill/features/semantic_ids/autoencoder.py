"""The encoder and decoder around the codebooks of an RQ-VAE.

Shapes: n rows, d width of the vectors, z width of the latents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

_ROWS = 1 << 16
_ENCODES = re.compile(r"encoder\.\d+\.weight")


class Autoencoder(nn.Module):
    """Two multilayer perceptrons that mirror each other, with ReLU between their layers (TIGER, section 3.1).

    Args:
        width: d.
        hidden: widths between d and z, the encoder's first.
        latent: z.
    """

    def __init__(self, *, width: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        widths = (width, *hidden, latent)
        self.encoder = _perceptron(widths)
        self.decoder = _perceptron(widths[::-1])

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """[n, d] → [n, z] float32."""
        return _apply(self.encoder, vectors)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """[n, z] → [n, d] float32."""
        return _apply(self.decoder, latents)

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights by name."""
        return {name: value.numpy() for name, value in self.state_dict().items()}

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """The autoencoder with the weights that :meth:`tensors` gave; their shapes tell its widths."""
        layers = {int(name.split(".")[1]): value for name, value in tensors.items() if _ENCODES.fullmatch(name)}
        *hidden, latent = [len(layers[at]) for at in sorted(layers)]
        made = cls(width=layers[0].shape[1], hidden=hidden, latent=latent)
        made.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        return made


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def _apply(layers: nn.Module, values: np.ndarray) -> np.ndarray:
    """In blocks of rows, so that the hidden layers of a whole catalogue are never held."""
    parts: list[Tensor] = [layers(part) for part in torch.from_numpy(np.ascontiguousarray(values)).split(_ROWS)]
    return torch.cat(parts).numpy()
