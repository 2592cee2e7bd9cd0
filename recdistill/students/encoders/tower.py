"""What every tower is, and how work is spread over the cores.

Shapes: n units (texts, frames, clips), p pieces (10 s of a clip; of others, the unit), T tokens, W the tower's width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from recdistill.students.encoders.media import BadMediaError, Source
from recdistill.students.encoders.network import Inputs, Network, Trained, pieces_of

Input = TypeVar("Input")
Output = TypeVar("Output")


class TextTower(Protocol):
    """A text encoder."""

    @property
    def identity(self) -> str:
        """Name of this tower in the cache: weights and preprocessing; equal identities give equal vectors."""
        ...

    def encode(self, units: Sequence[str]) -> np.ndarray:
        """[n, T, W] float32; a text's vector is the same alone and in any batch (1e-5)."""
        ...


class MediaTower(Protocol):
    """An encoder of pictures or sounds."""

    @property
    def identity(self) -> str:
        """As :attr:`TextTower.identity`."""
        ...

    @property
    def micro_batch(self) -> int:
        """How many units are encoded at once on one core."""
        ...

    def load(self) -> None:
        """Load the weights, before threads ask for them all at once."""
        ...

    def encode_decodable(self, units: Sequence[Source]) -> tuple[np.ndarray, list[str | None]]:
        """[m, T, W] float32 of the m units that can be decoded, and for each of the n units None or why it cannot."""
        ...


class MediaInput(Protocol):
    """Makes one picture or sound ready for a network."""

    def __call__(self, unit: Source) -> dict[str, Tensor]:
        """[p, …] by name.

        Raises:
            BadMediaError: it cannot be decoded.
        """
        ...


class NetworkTower(ABC):
    """A media tower made of two parts, of which the second can be trained: what makes a unit ready, and a network.

    Attributes:
        micro_batch: as of :class:`MediaTower`.
        pieces_at_once: of a micro-batch, what the network is given at one time.
    """

    micro_batch: int
    pieces_at_once: int

    @property
    @abstractmethod
    def identity(self) -> str:
        """As :attr:`TextTower.identity`."""

    @property
    @abstractmethod
    def input(self) -> MediaInput:
        """Makes units ready for the network."""

    @property
    @abstractmethod
    def network(self) -> Network:
        """The network with its weights."""

    @property
    @abstractmethod
    def trained(self) -> Trained:
        """The network and where it came from."""

    @abstractmethod
    def sample(self) -> dict[str, Tensor]:
        """The inputs of one unit."""

    def load(self) -> None:
        """Load the weights."""
        _ = self.input, self.network

    def encode_decodable(self, units: Sequence[Source]) -> tuple[np.ndarray, list[str | None]]:
        """[m, T, W] float32 of what can be decoded, the mean over a unit's pieces, and every unit's fault."""
        ready, faults = decode_all(self.input, units)
        if not ready:
            return np.zeros((0, 1, 1), np.float32), faults
        inputs = join(ready)
        parts = [
            run(self.network, {name: value[start : start + self.pieces_at_once] for name, value in inputs.items()})
            for start in range(0, pieces_of(inputs), self.pieces_at_once)
        ]
        of_units = torch.cat(parts).split([pieces_of(unit) for unit in ready])
        return torch.stack([pieces.mean(0) for pieces in of_units]).numpy(), faults


def run(network: Network, inputs: Inputs) -> Tensor:
    """[p, T, W] float32 in the host's memory, computed where the network's weights are."""
    device = next(network.parameters()).device
    vectors: Tensor = network(**{name: value.to(device) for name, value in inputs.items()})
    return vectors.float().cpu()


def join(units: Sequence[Inputs]) -> dict[str, Tensor]:
    """The pieces of several units, one unit after the other."""
    return {name: torch.cat([unit[name] for unit in units]) for name in units[0]}


def encode_media(tower: MediaTower, units: Sequence[Source]) -> tuple[np.ndarray | None, list[str | None]]:
    """Decode and encode on all cores.

    Returns:
        [m, T, W] float32 of the m decodable units in order (None if m = 0), and for each unit None or its fault.
    """
    tower.load()
    size = tower.micro_batch
    batches = [units[start : start + size] for start in range(0, len(units), size)]
    done = on_cores(tower.encode_decodable, batches)
    faults = [fault for _, of_batch in done for fault in of_batch]
    blocks = [block for block, _ in done if len(block)]
    if not blocks:
        return None, faults
    vectors = np.concatenate(blocks)
    finite = np.isfinite(vectors).all(axis=(1, 2))
    for place, fine in zip([row for row, fault in enumerate(faults) if fault is None], finite, strict=True):
        if not fine:
            faults[place] = "the tower's output is not finite"
    return (vectors[finite] if finite.any() else None), faults


def decode_all(decode: Callable[[Source], Output], units: Sequence[Source]) -> tuple[list[Output], list[str | None]]:
    """What can be decoded, and for each unit None or why it cannot."""
    decoded: list[Output] = []
    faults: list[str | None] = []
    for unit in units:
        try:
            decoded.append(decode(unit))
            faults.append(None)
        except BadMediaError as error:
            faults.append(str(error))
    return decoded, faults


def on_cores(work: Callable[[Input], Output], batches: Sequence[Input]) -> list[Output]:
    """``[work(batch) for batch in batches]`` without gradients, one batch a core.

    Small batches, each on one thread, keep a convolution's activations within the core's cache: measured 1.3 to 2 times
    faster than all threads together on one large batch.
    """
    workers = min(torch.get_num_threads(), len(batches))

    def alone(batch: Input) -> Output:
        with torch.inference_mode():
            return work(batch)

    if workers <= 1:
        return [alone(batch) for batch in batches]
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(alone, batches))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for what has not begun
        torch.set_num_threads(threads)
