"""What a tower that is trained reads of a batch: inputs of the items' texts, pictures or sounds, and whose they are.

Shapes: B items, p pieces (a text, a picture, 10 s of sound), P places an item, T tokens a piece, W the tower's width,
w a modality's feature width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.encoders.network import Inputs, Network, pieces_of
from recdistill.students.encoders.text import by_length
from recdistill.students.encoders.tower import on_cores
from recdistill.students.featurizer.featurizer import Featurizer

# Texts of like length go through the network together: padded to the batch's longest, most of them would be fillers.
_TOKENS_TRAINING, _TOKENS_ENCODING = 4096, 1024
_PIECES_ENCODING = 8


@dataclass(frozen=True)
class RawUnits:
    """A modality's features before the tower; stands for a [B, T, w] tensor, of which it can be asked rows.

    Attributes:
        inputs: [p, …] by name.
        owner: [p] the row of the item that a piece belongs to, ascending.
        place: [p] which of the item's places it fills, below ``places``.
        weight: [p] its share in that place's vector; of all pieces of a place they sum to 1.
        items: B.
        places: P.
        beside: [B, P, w − …] features that stand behind the tower's and are not trained, if there are any.
        free: [B] bool, whose texts are of no field; None: none's.
    """

    inputs: dict[str, Tensor]
    owner: Tensor
    place: Tensor
    weight: Tensor
    items: int
    places: int
    beside: Tensor | None = None
    free: Tensor | None = None

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, rows: Tensor | slice) -> RawUnits:
        """The items of some rows."""
        chosen = torch.arange(self.items, device=self.owner.device)[rows]
        first = torch.searchsorted(self.owner, torch.arange(self.items + 1, device=self.owner.device))
        counts = first.diff()[chosen]
        owner = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), counts)
        within = torch.arange(len(owner), device=chosen.device) - (counts.cumsum(0) - counts)[owner]
        pieces = first[chosen][owner] + within
        return RawUnits(
            {name: value[pieces] for name, value in self.inputs.items()},
            owner,
            self.place[pieces],
            self.weight[pieces],
            len(chosen),
            self.places,
            None if self.beside is None else self.beside[rows],
            None if self.free is None else self.free[rows],
        )

    def to(self, device: torch.device | str) -> RawUnits:
        """The same on a device."""
        return RawUnits(
            {name: value.to(device) for name, value in self.inputs.items()},
            self.owner.to(device),
            self.place.to(device),
            self.weight.to(device),
            self.items,
            self.places,
            None if self.beside is None else self.beside.to(device),
            None if self.free is None else self.free.to(device),
        )


def run_tower(network: Network, featurizer: Featurizer, modality: str, raw: RawUnits) -> Tensor:
    """[B, P · T, w] features, as the frozen tower's would be; zero where a place is empty.

    With gradients, texts are taken in groups of like length and media all at once; without, a few pieces at a time,
    on a CPU one group a core.
    """
    raw = raw.to(next(network.parameters()).device)
    if not len(raw.owner):
        return torch.zeros(raw.items, raw.places, featurizer.widths[modality], device=raw.owner.device)
    vectors = _vectors(network, raw.inputs)  # [p, T, W]
    _, tokens, width = vectors.shape
    places = vectors.new_zeros(raw.items * raw.places, tokens, width)
    at = raw.owner * raw.places + raw.place
    places = places.index_add(0, at, vectors * raw.weight[:, None, None])
    filled = torch.zeros(len(places), dtype=torch.bool, device=at.device)
    filled[at] = True
    features = featurizer.of_tower(modality, places).float()
    if modality == "text" and featurizer.text_places:
        of_fields = featurizer.of_tower(modality, places, np.tile(np.arange(raw.places), raw.items)).float()
        free = torch.zeros(raw.items, dtype=torch.bool) if raw.free is None else raw.free
        features = torch.where(free.repeat_interleave(raw.places).to(at.device)[:, None, None], features, of_fields)
    if raw.beside is not None:
        features = torch.cat([features, raw.beside.flatten(0, 1)[:, None].expand(-1, tokens, -1)], dim=-1)
    return torch.where(filled[:, None, None], features, 0.0).view(raw.items, raw.places * tokens, -1)


def idle(networks: Sequence[nn.Module]) -> Tensor | float:
    """Zero, with a gradient of zero to every trained weight of networks that a batch has no use for.

    Distributed training waits for a gradient of each weight, whatever a rank's batch holds.
    """
    weights = [weight for network in networks for weight in network.parameters() if weight.requires_grad]
    return sum((0.0 * weight.flatten()[0].float() for weight in weights), 0.0)


def _vectors(network: Network, inputs: Inputs) -> Tensor:
    gradients = torch.is_grad_enabled()
    groups = _groups(inputs, gradients=gradients)

    def work(rows: Sequence[int]) -> Tensor:
        vectors: Tensor = network(**_take(inputs, rows))
        return vectors

    if gradients or next(iter(inputs.values())).device.type != "cpu":
        parts = [work(rows) for rows in groups]
    else:
        parts = on_cores(work, groups)
    order = torch.tensor([row for rows in groups for row in rows], device=parts[0].device)
    return torch.cat(parts)[order.argsort()]


def _groups(inputs: Inputs, *, gradients: bool) -> list[list[int]]:
    if "attention_mask" in inputs:
        lengths = inputs["attention_mask"].sum(1).tolist()
        return by_length(lengths, most=_TOKENS_TRAINING if gradients else _TOKENS_ENCODING)[1]
    count = pieces_of(inputs)
    size = count if gradients else _PIECES_ENCODING
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def _take(inputs: Inputs, rows: Sequence[int]) -> Mapping[str, Tensor]:
    taken = {name: value[torch.tensor(rows, device=value.device)] for name, value in inputs.items()}
    if "attention_mask" in taken:  # fillers stand behind, and the last text is the longest
        longest = int(taken["attention_mask"].sum(1).max())
        taken = {name: value[:, :longest] for name, value in taken.items()}
    return taken
