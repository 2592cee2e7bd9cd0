"""Tower vectors and fields of a block of items → features and masks; one way for the catalogue and for new items.

Shapes: n items, u units (texts, frames, clips), T tokens a unit, W tower width, F frames, w feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recdistill.students.content import Block
from recdistill.students.featurizer.featurizer import Featurizer


@dataclass(frozen=True)
class Units:
    """Tower vectors of a block's units in one modality.

    Attributes:
        vectors: [u, T, W] float32.
        owner: [u] row of the item that each unit belongs to, ascending; an item's units are in order.
        place: [u] the fields that texts are, where each field is a unit of its own.
    """

    vectors: np.ndarray
    owner: np.ndarray
    place: np.ndarray | None = None

    @property
    def slot(self) -> np.ndarray:
        """[u] place of each unit among its item's."""
        if self.place is not None:
            return self.place
        return np.arange(len(self.owner)) - np.searchsorted(self.owner, self.owner)


def assemble(
    featurizer: Featurizer, block: Block, units: dict[str, Units], *, frames: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features [n, tokens, w] and masks [n] of every modality that the featurizer knows; zero where absent.

    Args:
        units: by modality, of those that have any.
        frames: places for an item's frames; None takes as many as the richest item has.
    """
    device = next(featurizer.buffers()).device
    features, present = {}, {}
    for modality, width in featurizer.widths.items():
        if modality == "structured":
            there = torch.from_numpy(block.structured).to(device)
            values = featurizer.structured(block)
        elif modality not in units or not len(units[modality].owner):
            there = torch.zeros(len(block), dtype=torch.bool, device=device)
            values = torch.zeros(len(block), 1, width, device=device)
        else:
            mine = units[modality]
            there = torch.zeros(len(block), dtype=torch.bool, device=device)
            there[torch.from_numpy(mine.owner).to(device)] = True
            values = _place(featurizer, modality, block, mine, width, frames)
        features[modality] = torch.where(there[:, None, None], values, 0.0)
        present[modality] = there
    return features, present


def mean_clips(units: Units) -> Units:
    """One unit an item: the mean of its clips."""
    owner, first = np.unique(units.owner, return_index=True)
    counts = np.diff(np.append(first, len(units.owner)))
    total = np.add.reduceat(units.vectors.astype(np.float64), first, axis=0) if len(first) else units.vectors
    return Units((total / counts[:, None, None]).astype(np.float32), owner)


def _place(featurizer: Featurizer, modality: str, block: Block, units: Units, width: int, frames: int | None) -> Tensor:
    device = next(featurizer.buffers()).device
    vectors, owner = torch.from_numpy(units.vectors).to(device), torch.from_numpy(units.owner).to(device)
    if modality == "text":
        done = featurizer.text(vectors, block.take(units.owner), units.place)
        places = featurizer.tokens["text"]
    else:
        done = featurizer.of_tower(modality, vectors)
        places = (frames or int(units.slot.max()) + 1) if modality == "image" else 1
    values = torch.zeros(len(block), places, done.shape[1], width, device=device)
    values[owner, torch.from_numpy(units.slot).to(device)] = done
    return values.flatten(1, 2)
