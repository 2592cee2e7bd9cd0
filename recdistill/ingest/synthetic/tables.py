"""The world's arrays as canonical tables and truth tables.

Shapes: I items, U users, n events, v visits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.ingest.files import MEDIA_SCHEMA
from recdistill.ingest.synthetic.affinity import BEHAVIOURS, return_probability
from recdistill.ingest.synthetic.audience import Users
from recdistill.ingest.synthetic.audio import sound
from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.image import draw
from recdistill.ingest.synthetic.simulate import PAGES, Events
from recdistill.ingest.synthetic.streams import Stream, generator
from recdistill.ingest.synthetic.text import write_texts
from recdistill.ingest.synthetic.vocabulary import GENRES, TOPICS

UTC_MICROSECONDS = pa.timestamp("us", "UTC")

INTERACTIONS_SCHEMA = pa.schema(
    [
        (names.USER_ID, pa.string()),
        (names.ITEM_ID, pa.string()),
        (names.TIMESTAMP, UTC_MICROSECONDS),
        (names.BEHAVIOURS, pa.list_(pa.string())),
        (names.IMPRESSION_ID, pa.string()),
        (names.POSITION, pa.int16()),
        (names.DWELL, pa.float32()),
        (names.SESSION_ID, pa.string()),
    ]
)

_SECOND_FRAME = 0.2
MEDIA_ROWS = 2_000  # items whose media are held in memory at once


def interactions(catalogue: Catalogue, users: Users, events: Events) -> pa.Table:
    """A block's events as ``interactions``, sorted by time."""
    number = users.numbers[events.user]
    day, page = events.page // PAGES, events.page % PAGES
    visit = (number << 7) + day  # unique a user and day, of which there are at most 90
    clicked = events.reactions > 0
    bits = (events.reactions[:, None] >> np.arange(len(BEHAVIOURS), dtype=np.uint8)) & 1
    offsets = np.concatenate([[0], np.cumsum(bits.sum(axis=1, dtype=np.int32), dtype=np.int32)])
    labels = _take(np.array(BEHAVIOURS), np.nonzero(bits)[1])
    return pa.Table.from_arrays(
        [
            _take(users.user_ids, events.user),
            _take(catalogue.item_ids, events.item),
            pa.array(events.time).cast(UTC_MICROSECONDS),
            pa.ListArray.from_arrays(pa.array(offsets), labels),
            _numbered("p", visit * PAGES + page),
            pa.array(events.position),
            pa.array(events.dwell, mask=~clicked),
            _numbered("s", visit * 2 + page // 2),
        ],
        schema=INTERACTIONS_SCHEMA,
    )


def items(config: WorldConfig, catalogue: Catalogue) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The ``items`` table, in order of id.

    Returns:
        the table, [I] int images an item has (0 … 2), [I] int sounds an item has (0 or 1); by catalogue row.
    """
    count = len(catalogue)
    writing = write_texts(config, catalogue)
    draws = generator(config.seed, Stream.CONTENT).random((count, 4))
    medial = draws[:, 0] < config.media
    frames = np.where(medial & (draws[:, 1] >= config.missing_image), 1 + (draws[:, 2] < _SECOND_FRAME), 0)
    sounds = np.where(medial & (draws[:, 3] >= config.missing_audio), 1, 0)
    ids = catalogue.item_ids.tolist()
    table = pa.table(
        {
            names.ITEM_ID: pa.array(ids),
            names.TEXT_PREFIX + "title": pa.array(writing.title, pa.string()),
            names.TEXT_PREFIX + "description": pa.array(writing.description, pa.string()),
            names.TAGS_PREFIX + "genre": pa.array(writing.genre, pa.list_(pa.string())),
            names.TAGS_PREFIX + "format": pa.array(writing.format, pa.list_(pa.string())),
            names.NUMBER_PREFIX + "duration_seconds": pa.array(writing.duration),
            names.NUMBER_PREFIX + "released_day": pa.array(writing.released_day, from_pandas=True),
            names.NUMBER_PREFIX + "followers_log": pa.array(writing.followers_log),
            names.LABELS_PREFIX + "topic": pa.array([[name] for name in catalogue.topic_names.tolist()]),
            names.IMAGES: pa.array(
                [[_image_id(i, f) for f in range(n)] for i, n in zip(ids, frames.tolist(), strict=True)],
                pa.list_(pa.string()),
            ),
            names.AUDIO: pa.array(
                [[f"{i}.wav"] * n for i, n in zip(ids, sounds.tolist(), strict=True)], pa.list_(pa.string())
            ),
        }
    )
    return table.take(np.argsort(catalogue.item_ids)), frames, sounds


def media(config: WorldConfig, catalogue: Catalogue, frames: np.ndarray, sounds: np.ndarray) -> Iterator[pa.Table]:
    """The ``media`` table in pieces, in order of item id. Memory: about 80 MB a piece."""
    order = np.argsort(catalogue.item_ids)
    for first in range(0, len(order), MEDIA_ROWS):
        ids, data = [], []
        for item in order[first : first + MEDIA_ROWS].tolist():
            name = str(catalogue.item_ids[item])
            for frame in range(int(frames[item])):
                ids.append(_image_id(name, frame))
                data.append(draw(config, catalogue, item=item, frame=frame))
            if sounds[item]:
                ids.append(f"{name}.wav")
                data.append(sound(config, catalogue, item=item))
        yield pa.Table.from_arrays(
            [pa.array(ids, pa.string()), pa.nulls(len(ids), pa.string()), pa.array(data, pa.binary())],
            schema=MEDIA_SCHEMA,
        )


def truth_items(catalogue: Catalogue) -> pa.Table:
    """What the items truly are, in order of id; ``nuisance`` is what content shows and nobody cares for."""
    table = pa.table(
        {
            names.ITEM_ID: pa.array(catalogue.item_ids.tolist()),
            "topic": pa.array(catalogue.topic),
            "topic_name": _take(np.array(list(TOPICS)), catalogue.topic),
            "genre": _take(np.array(list(GENRES)), catalogue.genre),
            "audience": pa.array(catalogue.audience[catalogue.topic]),
            "style": _vectors(catalogue.style),
            "views": _vectors(catalogue.views),
            "nuisance": _vectors(catalogue.nuisance),
            "quality": pa.array(catalogue.quality),
            "popularity": pa.array(catalogue.popularity),
            "arrival": pa.array(catalogue.arrival).cast(UTC_MICROSECONDS),
        }
    )
    return table.take(np.argsort(catalogue.item_ids))


def truth_users(users: Users) -> pa.Table:
    """What a block's users truly want."""
    return pa.table(
        {
            names.USER_ID: pa.array(users.user_ids.tolist()),
            "topics": _vectors(users.topics),
            "weight_start": _vectors(users.weight_start),
            "weight_end": _vectors(users.weight_end),
            "style_start": _vectors(users.style_start.reshape(len(users), -1)),
            "style_end": _vectors(users.style_end.reshape(len(users), -1)),
            "return_base": pa.array(users.return_base),
            "signup_day": pa.array(users.signup),
        }
    )


def truth_visits(config: WorldConfig, users: Users, events: Events) -> pa.Table:
    """Every visit of a block: its satisfaction, the state after it, and P(active) on each day until the next."""
    base = users.return_base[events.visit_user]
    return pa.table(
        {
            names.USER_ID: _take(users.user_ids, events.visit_user),
            "day": pa.array(events.visit_day),
            "satisfaction": pa.array(events.visit_satisfaction),
            "state": pa.array(events.visit_state),
            "return_probability": pa.array(return_probability(base, events.visit_state, slope=config.return_slope)),
        }
    )


def _image_id(item_id: str, frame: int) -> str:
    return f"{item_id}-{frame}.png"


def _take(values: np.ndarray, rows: np.ndarray) -> pa.Array:
    return pa.array(values.tolist(), pa.string()).take(pa.array(rows))


def _numbered(letter: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.cast(pa.array(numbers), pa.string()), "")


def _vectors(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).ravel()), matrix.shape[1])
