"""Raw items → features, by the same towers and featurizer as the catalogue's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.students.assemble import Units, assemble, mean_clips
from recdistill.students.content import NewItems
from recdistill.students.encoders.media import Source, spread
from recdistill.students.encoders.tower import MediaTower, encode_media
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.text import compose, text_units


def check_readable(new: NewItems, modalities: Sequence[str]) -> None:
    """Has each item anything that a student of these modalities reads?

    Raises:
        UserError: one has not.
    """
    has = {
        "text": np.array([bool(compose(fields)) for fields in new.block.texts], dtype=bool),
        "structured": new.block.structured,
        "image": np.array([bool(media) for media in new.images], dtype=bool),
        "audio": np.array([bool(media) for media in new.audio], dtype=bool),
    }
    nothing = np.flatnonzero(~np.logical_or.reduce([has[m] for m in modalities]))
    if len(nothing):
        raise UserError(
            f"item {nothing[0]} has nothing that this student reads ({', '.join(modalities)})",
            remedy="give one of these, or train a student that reads what the item has",
        )


def read_items(
    new: NewItems, rows: np.ndarray, featurizer: Featurizer, towers: Towers, modalities: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features and masks of some items, as a student takes them; a medium that cannot be read is warned of.

    Raises:
        UserError: an item's only media cannot be read.
    """
    block, units = new.block.take(rows), {}
    if "text" in modalities:
        places = featurizer.text_places
        texts, owner, place = text_units(block.texts, places)
        if texts:
            units["text"] = Units(towers.text.encode(texts), owner, place if places else None)
    faults: dict[int, list[str]] = {}
    for modality, media, most in _media(new, featurizer, modalities):
        chosen = [spread(media[row], most) for row in rows]
        found = _encode(getattr(towers, modality), chosen, rows, faults)
        if found is not None:
            units[modality] = mean_clips(found) if modality == "audio" else found
    features, present = assemble(featurizer, block, units)
    there = torch.stack([present[m] for m in modalities]).any(0)
    for row, why in faults.items():
        if not there[row - rows[0]]:
            raise UserError(
                f"item {row} has nothing readable: {'; '.join(why)}",
                remedy="give a readable file, or another modality",
            )
        warnings.warn(f"item {row}: counted as missing: {'; '.join(why)}", stacklevel=4)
    return features, present


def _media(new: NewItems, featurizer: Featurizer, modalities: Sequence[str]) -> list[tuple[str, list[list[Any]], int]]:
    """Modality, each item's media and the most that are looked at, of those that the student reads."""
    encoders, found = featurizer.encoders, list[tuple[str, list[list[Any]], int]]()
    if "image" in modalities and encoders.image is not None:
        found.append(("image", cast(list[list[Any]], new.images), encoders.image.frames))
    if "audio" in modalities and encoders.audio is not None:
        found.append(("audio", cast(list[list[Any]], new.audio), encoders.audio.clips))
    return found


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
