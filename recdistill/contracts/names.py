"""Column names of the contract tables; the only place where they are spelt."""

from __future__ import annotations

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
BEHAVIOURS = "behaviours"  # list<string>: positive behaviour labels of the event; empty = no positive reaction
VALUE = "value"  # float32, e.g. a rating as it was given
IMPRESSION_ID = "impression_id"
POSITION = "position"
DWELL = "dwell_seconds"
SESSION_ID = "session_id"

# Item columns come in families; the part behind the prefix is the field's own name.
TEXT_PREFIX = "text_"  # string
TAGS_PREFIX = "tags_"  # list<string>: categories, people, keywords
NUMBER_PREFIX = "number_"  # float64
LABELS_PREFIX = "labels_"  # list<string>: judges only, never an input of a student
IMAGES = "images"  # list<string> of media ids
AUDIO = "audio"  # list<string> of media ids

MEDIA_ID = "media_id"
MEDIA_PATH = "path"
MEDIA_BYTES = "bytes"

EMBEDDING = "embedding"  # fixed-size list<float32>
SUPPORT = "support"  # int64: interactions behind the vector
CONFIDENCE = "confidence"  # float32 in [0, 1]
LEVEL = "level"  # float32 added to an item's score: one more coordinate, against which a query has 1

ROLE = "role"  # of an item in a fold: warm, validation_cold or test_cold

QUERY_ITEMS = "query_item_ids"
TARGET_ITEM = "target_item_id"
PERSPECTIVE = "perspective"

# A side of a pair dataset is an item or a text.
QUERY_ITEM = "query_item_id"
QUERY_TEXT = "query_text"
TARGET_TEXT = "target_text"  # its other form is TARGET_ITEM
SCORE = "score"  # float32 in [0, 1]
CLICKS = "clicks"  # int64, of a row of the query table

CODES = "codes"

SUBJECT = "subject"
BENCHMARK = "benchmark"
SPLIT = "split"
METRIC = "metric"
SEED = "seed"
FOLD = "fold"
UNIT = "unit"  # the judged user (or item) whose share a record is; null for a figure of the whole
TOTAL = "total"
COUNT = "count"
LOW = "low"
HIGH = "high"
