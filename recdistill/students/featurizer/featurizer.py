"""All modalities' fitted transformations together: tower vectors and fields → the features that students read.

Shapes: n items, T tokens, W a tower's width, w a modality's feature width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recdistill.contracts.tables import atomic, write_json
from recdistill.errors import UserError
from recdistill.students.config import MODALITIES, EncodersConfig
from recdistill.students.content import Block, Fields
from recdistill.students.featurizer.dense import Dense
from recdistill.students.featurizer.direct import DirectTags
from recdistill.students.featurizer.hashing import HashedBag
from recdistill.students.featurizer.numbers import Numbers
from recdistill.students.featurizer.terms import tag_terms
from recdistill.students.text import words

_TENSORS, _SPEC = "featurizer.safetensors", "featurizer.json"


class Featurizer(nn.Module):
    """Built from its ``spec`` and filled by ``load`` or ``fit_featurizer``.

    The spec is JSON-able: shapes, vocabularies, the towers' names and identities.

    The spec and the buffers travel with every student, so that a new item is seen exactly as the catalogue was.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec = dict(spec)
        towers, fields, buckets = spec["towers"], spec["fields"], spec["encoders"]["buckets_log2"]
        self.fields = Fields(tuple(fields["text"]), tuple(fields["tags"]), tuple(fields["numbers"]))
        self.hashed_fields = tuple(spec["hashed_fields"])
        self.towers = nn.ModuleDict({m: Dense(width_in=t["width_in"], width=t["projected"]) for m, t in towers.items()})
        self.lexical = HashedBag(buckets_log2=buckets, width=spec["lexical"]) if spec["lexical"] else None
        self.direct = DirectTags(values=spec["direct"]) if spec["direct"] else None
        self.hashed = HashedBag(buckets_log2=buckets, width=spec["hashed"]) if spec["hashed"] else None
        self.numbers = (
            Numbers(fields=len(self.fields.numbers), bins=spec["number_bins"])
            if spec["number_bins"] is not None
            else None
        )
        self.requires_grad_(False)

    @property
    def widths(self) -> dict[str, int]:
        """Feature width of each modality that the catalogue has, in the students' order."""
        found = {m: cast(Dense, part).width for m, part in self.towers.items()}
        if "text" in found and self.lexical is not None:
            found["text"] += self.lexical.width
        if self._structured_parts:
            found["structured"] = sum(part.width for part in self._structured_parts)
        return {m: found[m] for m in MODALITIES if m in found}

    @property
    def encoders(self) -> EncodersConfig:
        """The settings of the towers."""
        return EncodersConfig.model_validate(self.spec["encoders"])

    def text(self, tower: Tensor, block: Block) -> Tensor:
        """[n, 1, W] tower vectors of the items' texts → [n, 1, w]: the tower's part, then the words' (equal shares)."""
        parts = [self.towers["text"](tower)]
        if self.lexical is not None:
            parts.append(self.lexical([words(fields) for fields in block.texts])[:, None])
        return torch.cat(parts, dim=-1) / len(parts) ** 0.5

    def media(self, modality: str, tower: Tensor) -> Tensor:
        """[…, W] → […, w] of pictures or sounds."""
        features: Tensor = self.towers[modality](tower)
        return features

    def structured(self, block: Block) -> Tensor:
        """[n, 1, w]: multi-hots, hashed tags and numbers in equal shares."""
        parts: list[Tensor] = []
        if self.direct is not None:
            parts.append(self.direct(block.tags))
        if self.hashed is not None:
            parts.append(self.hashed([tag_terms(tags, self.hashed_fields) for tags in block.tags]))
        if self.numbers is not None:
            parts.append(self.numbers(block.numbers))
        return (torch.cat(parts, dim=-1) / len(parts) ** 0.5)[:, None]

    def save(self, folder: Path) -> None:
        """Write ``featurizer.safetensors`` and ``featurizer.json``."""
        with atomic(folder / _TENSORS) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, temporary)
        write_json(self.spec, folder / _SPEC)

    @classmethod
    def load(cls, folder: Path) -> Featurizer:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: it is not there.
        """
        try:
            spec = json.loads((folder / _SPEC).read_text(encoding="utf-8"))
            featurizer = cls(spec)
            featurizer.load_state_dict(load_file(folder / _TENSORS))
        except FileNotFoundError as error:
            raise UserError(f"{folder}: no featurizer", remedy="run the encode stage first") from error
        return featurizer

    @property
    def _structured_parts(self) -> list[DirectTags | HashedBag | Numbers]:
        return [part for part in (self.direct, self.hashed, self.numbers) if part is not None]


def raw_content(features: Mapping[str, Tensor], present: Mapping[str, Tensor], widths: Mapping[str, int]) -> Tensor:
    """[n, Σ w]: the modalities' mean tokens, each of norm 1, side by side, in equal shares of those present; of norm 1.

    What untrained content says: the cosine of two items is the mean of their modalities' cosines (where both have all).
    """
    count = torch.stack([present[m] for m in widths]).sum(0).clamp(min=1)
    parts = []
    for modality in widths:
        mean = token_mean(features[modality])
        unit = mean / torch.linalg.vector_norm(mean, dim=-1, keepdim=True).clamp(min=1e-9)
        parts.append(torch.where(present[modality][:, None], unit, 0.0))
    return torch.cat(parts, dim=-1) / count[:, None].sqrt()


def token_mean(features: Tensor) -> Tensor:
    """[n, T, w] → [n, w], the mean of the tokens that are there; a token of zeros is a frame that the item lacks."""
    if features.shape[1] == 1:
        return features[:, 0]
    there = (features != 0).any(-1, keepdim=True)
    mean: Tensor = (features * there).sum(1) / there.sum(1).clamp(min=1)
    return mean
