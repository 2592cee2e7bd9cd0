"""What every tower is, and how work is spread over the cores.

Shapes: n units (texts, frames, clips), T tokens a unit, W the tower's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch

from recdistill.students.encoders.media import BadMediaError, Source

Input = TypeVar("Input")
Output = TypeVar("Output")


class TextTower(Protocol):
    """A frozen text encoder."""

    @property
    def identity(self) -> str:
        """Name of this tower in the cache: weights and preprocessing; equal identities give equal vectors."""
        ...

    def encode(self, units: Sequence[str]) -> np.ndarray:
        """[n, T, W] float32; a text's vector is the same alone and in any batch (1e-5)."""
        ...


class MediaTower(Protocol):
    """A frozen encoder of pictures or sounds."""

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

    def run(batch: Input) -> Output:
        with torch.inference_mode():
            return work(batch)

    if workers <= 1:
        return [run(batch) for batch in batches]
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(run, batches))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for what has not begun
        torch.set_num_threads(threads)
