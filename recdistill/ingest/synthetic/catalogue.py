"""The items of the planted world: what they truly are, before anything is written or drawn.

Shapes: I items, T topics, S = 5 style axes, V = 6 views, N = 6 nuisance numbers.

An item's *views* are six independent standard normals, and its *style*, which taste is about, is made of them::

    style = [view0, view1, view2, (view3 + view4) / sqrt(2), view5]

Content shows view 0 and 3 in the text, 1 and 4 in the image, 2 in the audio, each noisily, and view 5 nowhere. So
the fourth axis is in no single modality, and the fifth is known to behaviour alone. The topic is shown likewise:
its genre by tags and text, its place within the genre by the image's shape and, weakly, by text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cached_property

import numpy as np

from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.streams import Stream, generator
from recdistill.ingest.synthetic.vocabulary import TOPICS, TOPICS_PER_GENRE

VIEWS = 6
STYLES = 5
HIDDEN_STYLE = 4
NUISANCE = 6
TOPICS_PER_AUDIENCE = 4
FRESH_DAYS = 7
DAY = 86_400_000_000  # microseconds

_BACK_CATALOGUE_DAYS = 180.0


@dataclass(frozen=True)
class Catalogue:
    """Items in order of arrival; the row number is private, ``item_ids`` carry no information.

    Attributes:
        item_ids: [I] strings, numbered by a random permutation.
        topic: [I] int16.
        audience: [T] int16: the hidden group of topics, across genres, whose fans overlap.
        views: [I, V] float32.
        style: [I, S] float32.
        quality: [I] float32, standard normal.
        popularity: [I] float32, exposure weight; rises with quality a little.
        nuisance: [I, N] float32, standard normal, seen in content and of no consequence.
        arrival: [I] int64 microseconds since 1970 UTC, ascending.
        start: first microsecond of the log.
    """

    item_ids: np.ndarray
    topic: np.ndarray
    audience: np.ndarray
    views: np.ndarray
    style: np.ndarray
    quality: np.ndarray
    popularity: np.ndarray
    nuisance: np.ndarray
    arrival: np.ndarray
    start: int

    @classmethod
    def build(cls, config: WorldConfig) -> Catalogue:
        """Draw the items of a world. Memory: about 100 bytes an item."""
        count = config.items
        audience = generator(config.seed, Stream.TOPICS).permutation(config.topics) // TOPICS_PER_AUDIENCE
        rng = generator(config.seed, Stream.ITEMS)
        start = int(datetime.combine(config.start, time(), UTC).timestamp()) * 1_000_000
        old = count - round(config.new_items * count)
        days = np.concatenate([rng.uniform(-_BACK_CATALOGUE_DAYS, 0, old), rng.uniform(0, config.days, count - old)])
        arrival = np.sort(start + (days * DAY).astype(np.int64))
        # Every topic has about the same number of items, at all times.
        topic = rng.permuted(np.arange(count) % config.topics).astype(np.int16)
        views = rng.standard_normal((count, VIEWS), dtype=np.float32)
        quality = rng.standard_normal(count, dtype=np.float32)
        luck = rng.standard_normal(count, dtype=np.float32)
        popularity = np.exp(config.popularity_sigma * (0.5 * quality + np.sqrt(0.75) * luck)).astype(np.float32)
        nuisance = rng.standard_normal((count, NUISANCE), dtype=np.float32)
        return cls(
            item_ids=permuted_ids("i", count, generator(config.seed, Stream.ITEM_IDS).permutation(count)),
            topic=topic,
            audience=audience.astype(np.int16),
            views=views,
            style=style_of(views),
            quality=quality,
            popularity=popularity,
            nuisance=nuisance,
            arrival=arrival,
            start=start,
        )

    def __len__(self) -> int:
        return len(self.topic)

    @property
    def genre(self) -> np.ndarray:
        """[I] int16."""
        return (self.topic // TOPICS_PER_GENRE).astype(np.int16)

    @property
    def topic_names(self) -> np.ndarray:
        """[I] strings."""
        return np.array(list(TOPICS))[self.topic]

    @cached_property
    def arrived(self) -> np.ndarray:
        """[D] int64 for days 0 … 90: how many items (a prefix of the rows) had arrived when the day began."""
        return np.searchsorted(self.arrival, self.start + np.arange(91) * DAY, side="right")

    @cached_property
    def popular(self) -> PrefixSampler:
        """Draws among arrived items by popularity."""
        return PrefixSampler.build(np.zeros(len(self), dtype=np.int64), self.popularity, 1)

    @cached_property
    def popular_in_topic(self) -> PrefixSampler:
        """Draws among arrived items of a topic by popularity."""
        return PrefixSampler.build(self.topic.astype(np.int64), self.popularity, len(self.audience))


def style_of(views: np.ndarray) -> np.ndarray:
    """[I, V] views to [I, S] styles (the module's formula)."""
    mixed = (views[:, 3] + views[:, 4]) / np.sqrt(np.float32(2))
    return np.column_stack([views[:, 0], views[:, 1], views[:, 2], mixed, views[:, 5]]).astype(np.float32)


def permuted_ids(letter: str, total: int, numbers: np.ndarray) -> np.ndarray:
    """Strings like ``i00417`` of equal length from numbers below ``total``."""
    width = len(str(total - 1))
    return np.char.add(letter, np.char.zfill(numbers.astype(str), width))


@dataclass(frozen=True)
class PrefixSampler:
    """Weighted draws from a group's rows below a moving bound, in O(log I) each.

    Attributes:
        rows: [I] int32 rows ordered by (group, row).
        key: [I] int64 ``group * I + row``, ascending, to find where a prefix ends.
        cumulative: [I + 1] float64 running sum of the weights in that order, first 0.
        groups: how many groups there are.
    """

    rows: np.ndarray
    key: np.ndarray
    cumulative: np.ndarray
    groups: int

    @classmethod
    def build(cls, group: np.ndarray, weight: np.ndarray, groups: int) -> PrefixSampler:
        order = np.argsort(group, kind="stable")
        cumulative = np.concatenate([[0.0], np.cumsum(weight[order], dtype=np.float64)])
        return cls(order.astype(np.int32), group[order] * len(group) + order, cumulative, groups)

    def draw(self, group: np.ndarray, bound: int, uniform: np.ndarray) -> np.ndarray:
        """Rows drawn by weight among the rows < ``bound`` of each group.

        Args:
            group: [n] int group of each draw.
            bound: only rows below it may be drawn.
            uniform: [n] in [0, 1).

        Returns:
            [n] int32 rows, -1 where the group has none below the bound.
        """
        total = len(self.rows)
        begin = np.arange(self.groups) * total
        low, high = np.searchsorted(self.key, begin), np.searchsorted(self.key, begin + bound)
        left, right = self.cumulative[low], self.cumulative[high]
        value = left[group] + uniform * (right - left)[group]
        place = np.searchsorted(self.cumulative, value, side="right") - 1
        place = np.clip(place, low[group], np.maximum(high[group], 1) - 1)
        return np.where((high > low)[group], self.rows[np.minimum(place, total - 1)], -1).astype(np.int32)
