"""What is written about an item: titles, descriptions, tags and numbers.

Not quite half of the words hint at taste (genre, topic, views 0 and 3); the rest is register and filler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.ingest.synthetic.affinity import sigmoid
from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.streams import Stream, generator
from recdistill.ingest.synthetic.vocabulary import (
    FILLER,
    FORMATS,
    GENRES,
    REGISTERS,
    STYLE_A,
    STYLE_B,
    TOPICS,
    TOPICS_PER_GENRE,
)

_TITLE_WORDS = 5
_DESCRIPTION_WORDS = (14, 30)
# Shares of the words of each kind; what clarity takes away from the first four becomes filler.
_SHARES = {"genre": 0.15, "topic": 0.12, "style_a": 0.10, "style_b": 0.09, "register": 0.36, "filler": 0.18}
_RELEVANT = ("genre", "topic", "style_a", "style_b")
_RIGHT_TOPIC = 0.6  # else the word is of any topic of the genre
_STYLE_SLOPE = 2.2  # log-odds of the positive pole's words per s.d. of the view
_RIGHT_TAG = 0.92


@dataclass(frozen=True)
class Writing:
    """[I] object arrays of str, lists and None, and float64 arrays with NaN, column by column."""

    title: list[str]
    description: list[str | None]
    genre: list[list[str]]
    format: list[list[str]]
    duration: np.ndarray
    released_day: np.ndarray
    followers_log: np.ndarray


def write_texts(config: WorldConfig, catalogue: Catalogue) -> Writing:
    """Write the items' texts, tags and numbers. Time: about 15 µs an item."""
    rng = generator(config.seed, Stream.TEXT)
    count = len(catalogue)
    length = rng.integers(*_DESCRIPTION_WORDS, size=count)
    words = _words(rng, config, catalogue, _TITLE_WORDS + _DESCRIPTION_WORDS[1])
    title = [" ".join(row[:_TITLE_WORDS]).capitalize() for row in words]
    absent = rng.random(count) < config.missing_description
    description = [
        None if gone else " ".join(row[_TITLE_WORDS : _TITLE_WORDS + n]).capitalize() + "."
        for row, n, gone in zip(words, length.tolist(), absent.tolist(), strict=True)
    ]
    genres = -(-config.topics // TOPICS_PER_GENRE)
    right = rng.random(count) < _RIGHT_TAG * config.clarity
    tag = np.where(right, catalogue.genre, rng.integers(0, genres, count))
    untagged = rng.random(count) < config.missing_tags
    names = list(GENRES)
    kind = np.digitize(catalogue.nuisance[:, 5], np.linspace(-1.2, 1.2, len(FORMATS) - 1))
    released = (catalogue.arrival - catalogue.start) / 86_400e6
    released[rng.random(count) < 0.03] = np.nan
    fame = np.log(catalogue.popularity) / max(config.popularity_sigma, 1e-9)
    followers = 8.0 + 1.2 * (0.5 * fame + np.sqrt(0.75) * rng.standard_normal(count))
    return Writing(
        title=title,
        description=description,
        genre=[[] if gone else [names[g]] for g, gone in zip(tag.tolist(), untagged.tolist(), strict=True)],
        format=[[FORMATS[k]] for k in kind.tolist()],
        duration=np.round(np.exp(4.0 + 0.6 * catalogue.nuisance[:, 4].astype(np.float64)), 1),
        released_day=np.round(released, 3),
        followers_log=np.round(followers, 3),
    )


def _words(rng: np.random.Generator, config: WorldConfig, catalogue: Catalogue, width: int) -> list[list[str]]:
    """[I][width] words."""
    count = len(catalogue)
    share = dict(_SHARES)
    for name in _RELEVANT:
        share["filler"] += share[name] * (1 - config.clarity)
        share[name] *= config.clarity
    kind = rng.choice(len(share), size=(count, width), p=list(share.values()))
    pick = rng.random((count, width))
    genre = catalogue.genre[:, None].astype(np.int64)
    in_genre = np.minimum(genre * TOPICS_PER_GENRE + rng.integers(0, TOPICS_PER_GENRE, kind.shape), config.topics - 1)
    topic = np.where(rng.random(kind.shape) < _RIGHT_TOPIC, catalogue.topic[:, None], in_genre)
    pole_a = rng.random(kind.shape) < sigmoid(_STYLE_SLOPE * catalogue.views[:, :1])
    pole_b = rng.random(kind.shape) < sigmoid(_STYLE_SLOPE * catalogue.views[:, 3:4])
    register = np.digitize(catalogue.nuisance[:, 0], np.linspace(-1, 1, len(REGISTERS) - 1))[:, None]
    parts: list[tuple[tuple[tuple[str, ...], ...], np.ndarray]] = [
        (tuple(GENRES.values()), genre),
        (tuple(TOPICS.values()), topic),
        (STYLE_A, pole_a),
        (STYLE_B, pole_b),
        (REGISTERS, register),
        ((FILLER,), np.zeros((1, 1), dtype=np.int64)),
    ]
    words = np.full(kind.shape, "", dtype=object)
    for number, (lists, choice) in enumerate(parts):
        table = np.array([word for words_of in lists for word in words_of], dtype=object)
        length = len(lists[0])  # equal in every list of a part
        here = kind == number
        which = np.broadcast_to(choice, kind.shape)[here].astype(np.int64)
        words[here] = table[which * length + (pick[here] * length).astype(np.int64)]
    return list(words.tolist())
