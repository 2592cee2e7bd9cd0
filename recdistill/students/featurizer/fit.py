"""Fitting a featurizer on a catalogue whose units are all in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch

from recdistill.students.config import EncodersConfig
from recdistill.students.content import Block, Catalogue
from recdistill.students.featurizer.dense import Blocks, Dense
from recdistill.students.featurizer.direct import DirectTags
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.featurizer.hashing import HashedBag
from recdistill.students.featurizer.numbers import Numbers
from recdistill.students.featurizer.places import PlaceCentre, PlacedBlocks
from recdistill.students.featurizer.terms import tag_terms
from recdistill.students.text import text_units, words

VERSION = 1


def fit_featurizer(
    config: EncodersConfig,
    catalogue: Catalogue,
    towers: Mapping[str, Blocks],
    identities: Mapping[str, str],
    text_places: Callable[[], Iterator[np.ndarray]],
) -> Featurizer:
    """Fit every modality's transformation.

    Memory: what one modality's blocks and W² doubles take, and ``fit_items`` items as Python objects.

    Args:
        towers: by modality, a function that gives the catalogue's [n, W] tower vectors in blocks, twice the same.
        identities: the towers'.
        text_places: a function that gives the texts' places, block by block as ``towers["text"]`` their vectors; asked
            where text fields are tokens.
    """
    widths: dict[str, int | None] = {
        "text": None,
        "image": config.image.width if config.image else None,
        "audio": config.audio.width if config.audio else None,
    }
    dense = {modality: Dense.fit(blocks, width=widths[modality]) for modality, blocks in towers.items()}
    sample = catalogue.block(_sample(len(catalogue), config.fit_items))
    lexical = _lexical(config, sample) if "text" in dense else None
    direct, hashed, hashed_fields, numbers = _structured(config, catalogue, sample)
    fields = catalogue.fields
    spec: dict[str, Any] = {
        "version": VERSION,
        "encoders": config.model_copy(update={"cache": None}).model_dump(mode="json"),
        "identities": dict(identities),
        "fields": {"text": list(fields.text), "tags": list(fields.tags), "numbers": list(fields.numbers)},
        "towers": {
            modality: {"width_in": part.width_in, "projected": None if part.projection is None else part.width}
            for modality, part in dense.items()
        },
        "lexical": lexical.width if lexical else None,
        "direct": direct.values if direct else None,
        "hashed": hashed.width if hashed else None,
        "hashed_fields": hashed_fields,
        "number_bins": numbers.bins if numbers else None,
    }
    featurizer = Featurizer(spec)
    for modality, fitted in dense.items():
        featurizer.towers[modality].load_state_dict(fitted.state_dict())
    for part, of in (
        (lexical, featurizer.lexical),
        (direct, featurizer.direct),
        (hashed, featurizer.hashed),
        (numbers, featurizer.numbers),
    ):
        if part is not None and of is not None:
            of.load_state_dict(part.state_dict())
    for name, blocks in _placed(featurizer, sample, towers, text_places):
        centre = cast(PlaceCentre, featurizer.centres[name])
        centre.load_state_dict(
            PlaceCentre.fit(blocks, places=len(centre.mean), width=centre.mean.shape[1]).state_dict()
        )
    return featurizer.eval()


def _placed(
    featurizer: Featurizer,
    sample: Block,
    towers: Mapping[str, Blocks],
    text_places: Callable[[], Iterator[np.ndarray]],
) -> Iterator[tuple[str, PlacedBlocks]]:
    """What each part's fields are centred on: the tower's vectors on all of them, words and tags on the sample's."""
    if "tower" in featurizer.centres:
        yield (
            "tower",
            lambda: (
                (featurizer.towers["text"](torch.from_numpy(vectors)), place)
                for vectors, place in zip(towers["text"](), text_places(), strict=True)
            ),
        )
    if "lexical" in featurizer.centres:
        _, owner, place = text_units(sample.texts, featurizer.text_places)
        words = featurizer.of_words(sample.take(owner), place)
        yield "lexical", lambda: [(words, place)]
    if "structured" in featurizer.centres:
        tokens = featurizer.structured_tokens(sample)
        of_token = np.tile(np.arange(tokens.shape[1]), len(sample))
        yield "structured", lambda: [(tokens.flatten(0, 1), of_token)]


def _sample(count: int, most: int) -> np.ndarray:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _lexical(config: EncodersConfig, sample: Block) -> HashedBag | None:
    if config.text is None or not config.text.lexical:
        return None
    bags = [words(fields) for fields in sample.texts if fields]
    return HashedBag.fit(bags, buckets_log2=config.buckets_log2, width=config.text.lexical)


def _structured(
    config: EncodersConfig, catalogue: Catalogue, sample: Block
) -> tuple[DirectTags | None, HashedBag | None, list[str], Numbers | None]:
    settings = config.structured
    if settings is None:
        return None, None, [], None
    direct = DirectTags.fit(sample.tags, fields=catalogue.fields.tags, most=settings.direct_values)
    others = [field for field in catalogue.fields.tags if direct is None or field not in direct.values]
    bags = [terms for terms in (tag_terms(tags, others) for tags in sample.tags) if terms]
    hashed = HashedBag.fit(bags, buckets_log2=config.buckets_log2, width=settings.width) if bags else None
    return direct, hashed, others, Numbers.fit(sample.numbers, bins=settings.number_bins)


def flat(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """[u, T, W] blocks → [u · T, W] blocks."""
    for block in blocks:
        yield block.reshape(-1, block.shape[-1])
