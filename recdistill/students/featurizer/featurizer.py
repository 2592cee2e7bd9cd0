"""All modalities' fitted transformations together: tower vectors and fields → the features that students read.

Shapes: n items, T tokens, W a tower's width, w a modality's feature width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
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
from recdistill.students.featurizer.places import PlaceCentre
from recdistill.students.featurizer.structured import field_tokens
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
        encoders, structured = self.encoders, self._structured_parts
        self.text_places, self.structured_places = tuple[str, ...](), tuple[str, ...]()
        if encoders.text is not None and encoders.text.tokens == "fields":
            self.text_places = self.fields.text
        if encoders.structured is not None and encoders.structured.tokens == "fields" and structured:
            self.structured_places = (*self.fields.tags, *(["numbers"] if self.numbers is not None else []))
        self.centres = nn.ModuleDict()
        if self.text_places and "text" in self.towers:
            places = len(self.text_places)
            self.centres["tower"] = PlaceCentre(places=places, width=cast(Dense, self.towers["text"]).width)
            if self.lexical is not None:
                self.centres["lexical"] = PlaceCentre(places=places, width=self.lexical.width)
        if self.structured_places:
            self.centres["structured"] = PlaceCentre(
                places=len(self.structured_places), width=sum(part.width for part in structured)
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
    def tokens(self) -> dict[str, int]:
        """Tokens of an item in each modality; of the media one a unit."""
        fields = {"text": len(self.text_places), "structured": len(self.structured_places)}
        return {m: fields.get(m, 1) or 1 for m in self.widths}

    def has_fields(self, modality: str) -> bool:
        """Are its tokens fields, each of which may be missing?"""
        return bool({"text": self.text_places, "structured": self.structured_places}.get(modality))

    @property
    def encoders(self) -> EncodersConfig:
        """The settings of the towers."""
        return EncodersConfig.model_validate(self.spec["encoders"])

    def text(self, tower: Tensor, block: Block, place: np.ndarray | None = None) -> Tensor:
        """[n, 1, W] tower vectors of texts → [n, 1, w]: the tower's part, then the words' (equal shares).

        Args:
            block: the items to which the texts belong.
            place: [n] which of ``text_places`` each text is; None: all of its item's fields, or of no field (a prompt).
        """
        parts = [self.of_tower("text", tower, place)]
        if self.lexical is not None:
            parts.append(self.text_words(block, place))
        return torch.cat(parts, dim=-1)

    def text_words(self, block: Block, place: np.ndarray | None = None) -> Tensor:
        """[n, 1, r] words' part of :meth:`text`, which comes behind the tower's; r = 0 without one."""
        if self.lexical is None:
            return torch.zeros(len(block), 1, 0, device=next(self.buffers()).device)
        return self._centred("lexical", self.of_words(block, place), place)[:, None] / 2**0.5

    def of_tower(self, modality: str, vectors: Tensor, place: np.ndarray | None = None) -> Tensor:
        """[n, …, W] tower vectors → the tower's part of a modality's features, which comes first in them.

        Args:
            place: as of :meth:`text`; of texts only.
        """
        features = self._centred("tower", self.towers[modality](vectors), place)
        return features / 2**0.5 if modality == "text" and self.lexical is not None else features

    def of_words(self, block: Block, place: np.ndarray | None = None) -> Tensor:
        """[n, r] lexical part of texts, before it is centred by place; arguments as of :meth:`text`."""
        assert self.lexical is not None
        if place is None:
            return self.lexical([words(fields) for fields in block.texts])
        names = [self.text_places[at] for at in place]
        return self.lexical([words({name: fields[name]}) for name, fields in zip(names, block.texts, strict=True)])

    def _centred(self, part: str, vectors: Tensor, place: np.ndarray | None) -> Tensor:
        if place is None:
            return vectors
        centred: Tensor = self.centres[part](vectors, torch.from_numpy(place).to(vectors.device))
        return centred

    def structured(self, block: Block) -> Tensor:
        """[n, T, w]: multi-hots, hashed tags and numbers side by side.

        T = 1, in equal shares; or a token for each of ``structured_places``, each with zeros in the others' columns,
        and all zero where the item lacks the field.
        """
        if self.structured_places:
            tokens = self.structured_tokens(block)
            place = np.tile(np.arange(tokens.shape[1]), len(block))
            return self._centred("structured", tokens.flatten(0, 1), place).view_as(tokens)
        parts: list[Tensor] = []
        if self.direct is not None:
            parts.append(self.direct(block.tags))
        if self.hashed is not None:
            parts.append(self.hashed([tag_terms(tags, self.hashed_fields) for tags in block.tags]))
        if self.numbers is not None:
            parts.append(self.numbers(block.numbers))
        return (torch.cat(parts, dim=-1) / len(parts) ** 0.5)[:, None]

    def structured_tokens(self, block: Block) -> Tensor:
        """[n, T, w] of :meth:`structured` before they are centred by place."""
        return field_tokens(
            block,
            tags=self.fields.tags,
            hashed_fields=self.hashed_fields,
            direct=self.direct,
            hashed=self.hashed,
            numbers=self.numbers,
        )

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
