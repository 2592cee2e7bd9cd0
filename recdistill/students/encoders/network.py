"""What every tower's network is: prepared pieces of texts, pictures or sounds in, vectors out.

Shapes: p pieces (a text, a picture, 10 s of sound), T tokens a piece, W the tower's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

Inputs = Mapping[str, Tensor]


class Network(nn.Module):
    """``network(**inputs)``: [p, …] tensors by name → [p, T, W] float32.

    Attributes:
        architecture: JSON-able; with the encoder's settings it is all that is needed to build the network again, empty.
        frozen: names of the weights that are not trained, of a network that is.
    """

    architecture: dict[str, Any]
    frozen: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Network:
        """Training mode, in which batch normalisation keeps the statistics it has: a batch must not decide over an
        item's vector, and what is said to be frozen must not move.

        Also freezes again what is not trained: ``from_pretrained`` ends with ``eval`` and has forgotten it.
        """
        super().train(mode)
        for name in self.frozen:
            self.get_parameter(name).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


@dataclass(frozen=True)
class Trained:
    """A network with the weights that it has now, and where it came from.

    Attributes:
        folder: of its settings and its tokenizer or processor; None where the code has them.
    """

    network: Network
    folder: Path | None


def pieces_of(inputs: Inputs) -> int:
    """How many pieces the inputs hold."""
    return len(next(iter(inputs.values())))
