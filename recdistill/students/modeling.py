"""The student as a ``transformers`` model: features in training, raw items in use.

Shapes: B items, T tokens, W a modality's width, M modalities, d the student's width.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from recdistill.errors import UserError
from recdistill.students.assemble import Units, assemble, mean_clips
from recdistill.students.configuration import RecDistillStudentConfig
from recdistill.students.content import NewItems
from recdistill.students.encoders.media import Source, spread
from recdistill.students.encoders.tower import MediaTower, encode_media
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.fusion import FusionStudent
from recdistill.students.linear import LinearStudent
from recdistill.students.store import FeatureStore
from recdistill.students.text import compose


class RecDistillStudent(PreTrainedModel):
    """Places an item by its content.

    ``save_pretrained`` keeps the featurizer and the towers' names, not the towers' weights.
    """

    config_class = RecDistillStudentConfig
    main_input_name = "features"
    base_model_prefix = ""

    def __init__(self, config: RecDistillStudentConfig) -> None:
        super().__init__(config)
        if config.featurizer is None or not config.modalities:
            raise ValueError("a student is built with build_student, or loaded with from_pretrained")
        self.featurizer = Featurizer(config.featurizer)
        self.modalities = tuple(config.modalities)
        widths = {m: self.featurizer.widths[m] for m in self.modalities}
        self.body: nn.Module
        if config.kind == "fusion":
            self.body = FusionStudent(
                widths=widths,
                dim=config.dim,
                width=config.fusion_width,
                depth=config.fusion_depth,
                heads=config.fusion_heads,
                queries=config.fusion_queries,
                dropout=config.feature_dropout,
            )
        else:
            self.body = LinearStudent(widths=widths, dim=config.dim, dropout=config.feature_dropout)
        self._towers: Towers | None = None
        self.post_init()

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Widths that serve, ascending; the full width is the last."""
        return (*sorted({width for width in self.config.prefixes or () if width < self.config.dim}), self.config.dim)

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Vectors of items given as features; what :meth:`FeatureStore.batch` returns.

        In training, present modalities are hidden at random, never all of an item's.

        Args:
            features: modality → [B, T, W]; what the student does not read is ignored, what is left out is missing.
            present: modality → [B] bool. What an absent modality holds has no influence.

        Returns:
            [B, d], not normalised.
        """
        size = len(next(iter(features.values())))
        device = next(self.body.parameters()).device
        given, masks = dict(features), []
        for modality in self.modalities:
            if modality in features:
                masks.append(present[modality])
            else:
                masks.append(torch.zeros(size, dtype=torch.bool, device=device))
                given[modality] = torch.zeros(size, 1, self.featurizer.widths[modality], device=device)
        there = torch.stack(masks, dim=1)  # [B, M]
        if self.training and self.config.modality_dropout:
            there = hide_modalities(there, chance=self.config.modality_dropout)
        vectors: Tensor = self.body(given, there)
        return vectors

    @torch.inference_mode()
    def encode_store(self, store: FeatureStore, *, batch_size: int = 4096, normalize: bool = True) -> np.ndarray:
        """[I, d] float32 vectors of a whole catalogue, as :meth:`encode` gives them for the same items."""
        with _evaluating(self):
            parts = [self(*store.batch(slice(row, row + batch_size))) for row in range(0, len(store), batch_size)]
        return _finish(parts, self.config.dim, normalize=normalize)

    @torch.inference_mode()
    def encode(
        self, items: Sequence[Mapping[str, Any]], *, batch_size: int = 512, normalize: bool = True
    ) -> np.ndarray:
        """Vectors of items that may never have been seen.

        Args:
            items: dicts with any non-empty subset of ``text`` (field → string), ``image`` (path, bytes or PIL image, or
                a list of them), ``audio`` (path, bytes or (waveform, rate), or a list) and ``structured`` (field →
                value or list of values). A picture or sound that cannot be read is warned of and counts as missing.
            batch_size: items in memory at once. An item's vector depends neither on it nor on other items (1e-5).
            normalize: scale to norm 1, for cosine; else as :meth:`forward` gives them.

        Returns:
            [n, d] float32.

        Raises:
            UserError: an item is empty, has an unknown key or field or a value of the wrong type, or has nothing that
                the student reads; the message names it by index.
        """
        new = NewItems.parse(items, self.featurizer.fields)
        self._check_readable(new)
        parts = []
        with _evaluating(self):
            for start in range(0, len(items), batch_size):
                features, present = self._features(new, np.arange(start, min(start + batch_size, len(items))))
                parts.append(self(features, present))
        return _finish(parts, self.config.dim, normalize=normalize)

    def _features(self, new: NewItems, rows: np.ndarray) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        block, units = new.block.take(rows), {}
        if "text" in self.modalities:
            texts = [compose(fields) for fields in block.texts]
            owner = np.flatnonzero([bool(text) for text in texts])
            if len(owner):
                units["text"] = Units(self.towers.text.encode([texts[row] for row in owner]), owner)
        faults: dict[int, list[str]] = {}
        for modality, media, most in self._media(new):
            chosen = [spread(media[row], most) for row in rows]
            found = _encode(getattr(self.towers, modality), chosen, rows, faults)
            if found is not None:
                units[modality] = mean_clips(found) if modality == "audio" else found
        features, present = assemble(self.featurizer, block, units)
        there = torch.stack([present[m] for m in self.modalities]).any(0)
        for row, why in faults.items():
            if not there[row - rows[0]]:
                raise UserError(
                    f"item {row} has nothing readable: {'; '.join(why)}",
                    remedy="give a readable file, or another modality",
                )
            warnings.warn(f"item {row}: counted as missing: {'; '.join(why)}", stacklevel=4)
        return features, present

    @property
    def towers(self) -> Towers:
        """The frozen encoders, loaded by name when they are first needed."""
        if self._towers is None:
            self._towers = Towers(self.featurizer.encoders, expected=self.featurizer.spec["identities"])
        return self._towers

    def _media(self, new: NewItems) -> list[tuple[str, list[list[Any]], int]]:
        """Modality, each item's media and the most that are looked at, of those that the student reads."""
        encoders, found = self.featurizer.encoders, list[tuple[str, list[list[Any]], int]]()
        if "image" in self.modalities and encoders.image is not None:
            found.append(("image", cast(list[list[Any]], new.images), encoders.image.frames))
        if "audio" in self.modalities and encoders.audio is not None:
            found.append(("audio", cast(list[list[Any]], new.audio), encoders.audio.clips))
        return found

    def _check_readable(self, new: NewItems) -> None:
        has = {
            "text": np.array([bool(compose(fields)) for fields in new.block.texts], dtype=bool),
            "structured": new.block.structured,
            "image": np.array([bool(media) for media in new.images], dtype=bool),
            "audio": np.array([bool(media) for media in new.audio], dtype=bool),
        }
        nothing = np.flatnonzero(~np.logical_or.reduce([has[m] for m in self.modalities]))
        if len(nothing):
            raise UserError(
                f"item {nothing[0]} has nothing that this student reads ({', '.join(self.modalities)})",
                remedy="give one of these, or train a student that reads what the item has",
            )

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the modules' own initialisation stands."""


def hide_modalities(present: Tensor, *, chance: float) -> Tensor:
    """Hide each present modality with that chance, but one at random of an item's that would lose all: [B, M] bool."""
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    spared = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0).argmax(1)
    lost = present.any(1) & ~kept.any(1)
    return kept | (lost[:, None] & nn.functional.one_hot(spared, present.shape[1]).bool())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _encode(
    tower: MediaTower, media: Sequence[Sequence[Source]], rows: np.ndarray, faults: dict[int, list[str]]
) -> Units | None:
    flat = [(place, source) for place, mine in enumerate(media) for source in mine]
    if not flat:
        return None
    vectors, why = encode_media(tower, [source for _, source in flat])
    for (place, _), fault in zip(flat, why, strict=True):
        if fault is not None:
            faults.setdefault(int(rows[place]), []).append(fault)
    if vectors is None:
        return None
    return Units(vectors, np.array([place for (place, _), fault in zip(flat, why, strict=True) if fault is None]))


def _finish(parts: Sequence[Tensor], dim: int, *, normalize: bool) -> np.ndarray:
    vectors = torch.cat(list(parts)).float() if parts else torch.zeros(0, dim)
    if normalize:
        vectors = nn.functional.normalize(vectors, dim=-1)
    return vectors.cpu().numpy()
