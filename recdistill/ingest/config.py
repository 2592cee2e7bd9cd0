"""Settings of the ``ingest`` stage: the ``data`` section of a recipe."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.ingest.synthetic import WorldConfig
from recdistill.settings import Settings

IdType = Literal["auto", "string", "int64"]
NULL_TEXTS = ("", "NULL", "null", "NaN", "nan", "NA", "N/A", "\\N")


class TableFile(Settings):
    """A table in one or several files: CSV, TSV or Parquet, also compressed (.gz, .bz2, .zst, .lz4).

    Files whose name (before the compression's ending) ends in .parquet are Parquet; the others are text. A compressed
    Parquet file is unpacked into a temporary file each time it is opened.
    """

    path: Path | None = Field(
        None, description="the file, or a folder of part files; relative paths are under data.root"
    )
    paths: tuple[Path, ...] = Field((), description="several of them, read as one table")
    delimiter: str | None = Field(
        None, min_length=1, description="of text files; by default a tab for .tsv, .tab and .data, else a comma"
    )
    quote: Literal["auto"] | Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        "auto",
        description="quote character of text files; null if quotes mean nothing; auto: null between tabs, else a "
        "double quote",
    )
    multiline: bool = Field(
        False,
        description="believe quoted values that hold line breaks and delimiters as whole rows would; otherwise they "
        "are refused, for that is what an unbalanced quote swallows",
    )
    encoding: str = Field("utf-8", description="of text files")
    null_values: tuple[str, ...] = Field(NULL_TEXTS, description="texts that mean 'no value' in text files")
    column_names: tuple[str, ...] = Field((), description="names of the columns, if the files have no header line")

    @model_validator(mode="after")
    def _one_source(self) -> TableFile:
        if self._source_required() and (self.path is None) == (not self.paths):
            raise ValueError("give either path or paths")
        return self

    def _source_required(self) -> bool:
        return True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files as they were given."""
        return self.paths if self.path is None else (self.path,)


class TimedFile(TableFile):
    """A table whose rows have a time."""

    timestamp_unit: Literal["s", "ms", "us", "iso"] = Field(
        "s", description="of numbers; iso for texts. Parquet timestamps need none"
    )
    timestamp_origin: datetime = Field(
        datetime(1970, 1, 1, tzinfo=UTC), description="the time from which numbers count"
    )

    @property
    def utc_origin(self) -> datetime:
        """The time from which numbers count; without a zone it is taken as UTC."""
        origin = self.timestamp_origin
        return origin if origin.tzinfo is not None else origin.replace(tzinfo=UTC)


class InteractionColumns(Settings):
    """The interaction file's names of the canonical columns."""

    user: str
    item: str
    timestamp: str
    value: str | None = Field(None, description="a rating or the like")
    impression: str | None = Field(None, description="what was shown together carries the same value")
    position: str | None = Field(None, description="place in the impression")
    dwell: str | None = Field(None, description="how long the user stayed")
    session: str | None = None


class InteractionsConfig(TimedFile):
    """The interaction log, one row an event.

    What counts as a positive reaction is said by ``behaviours`` (rules over columns) or by ``behaviour_column``
    (a column that names the kind of event), or by both.
    """

    columns: InteractionColumns
    dwell_unit: Literal["s", "ms"] = "s"
    behaviours: tuple[BehaviourRule, ...] = ()
    behaviour_column: str | None = Field(None, description="the column that names the kind of event")
    behaviour_map: dict[str, str | None] = Field(
        {},
        description="kind of event → behaviour label, null for no positive behaviour; "
        "if empty, every kind is its own label",
    )
    merge_within_seconds: float | None = Field(
        None,
        ge=0,
        description="events of one user with one item, each at most so long after the last, become one interaction "
        "at the last one's time with all their behaviours; by default every event stays its own",
    )

    @model_validator(mode="after")
    def _says_what_is_positive(self) -> InteractionsConfig:
        if not self.behaviours and self.behaviour_column is None:
            raise ValueError("say what counts as positive: give behaviours (rules) or behaviour_column")
        if self.behaviour_map and self.behaviour_column is None:
            raise ValueError("behaviour_map needs behaviour_column")
        return self


class QueryColumns(Settings):
    """The query file's names of the canonical columns."""

    query: str = Field(description="what was searched for")
    item: str = Field(description="the item taken from the results")
    timestamp: str
    user: str | None = Field(None, description="who searched; user-disjoint folds can use no other rows")
    clicks: str | None = Field(None, description="how many clicks a row stands for; by default each row is one")
    score: str | None = Field(None, description="how well the item answers the query, from 0 to 1")


class QueriesConfig(TimedFile):
    """Searches that led to items, one row an event. Rows without a query text are dropped and counted."""

    columns: QueryColumns


class TagsColumn(Settings):
    """A column of lists, or of texts that join several values."""

    column: str
    separator: str | None = Field(
        None, min_length=1, description="between the values of a text; by default the text is one value"
    )


class LabelsColumn(TableFile):
    """Labels for judges, from the items file or from a file of their own with one row an item and label."""

    column: str
    separator: str | None = Field(
        None, min_length=1, description="between the values of a text; by default the text is one value"
    )
    item: str | None = Field(None, description="the other file's column of item ids")

    def _source_required(self) -> bool:
        return self.item is not None

    @model_validator(mode="after")
    def _item_with_file(self) -> LabelsColumn:
        if self.item is None and self.files:
            raise ValueError("labels from another file need 'item', its column of item ids")
        return self


class ItemsConfig(TableFile):
    """The items' content, one row an item. Rows without an id are dropped and counted."""

    id: str = Field(description="the column of item ids")
    text: dict[str, str] = Field({}, description="text field → column")
    tags: dict[str, TagsColumn] = Field({}, description="field of several values → column")
    numbers: dict[str, str] = Field({}, description="number field → column")
    labels: dict[str, LabelsColumn] = Field({}, description="labels for judges only, never an input of a student")


class MediaConfig(Settings):
    """Pictures or sounds: from Parquet files with a column of bytes, or from a folder of files.

    Parquet: ``paths`` with ``key`` and ``bytes``; several rows of one key are several pictures of its item, in order.
    Folder: files named ``<key>.<ending>`` or ``<key>_<number>.<ending>``, or subfolders named by the key; or, with
    ``item_column``, files that a column of the items file names.
    """

    path: Path | None = Field(None, description="a Parquet file; relative paths are under data.root")
    paths: tuple[Path, ...] = Field((), description="several of them; the items use all")
    key: str | None = Field(None, description="the Parquet files' column that items are found by")
    bytes: str | None = Field(
        None,
        description="the Parquet files' column of encoded pictures or sounds, or of structs with a field 'bytes'",
    )
    folder: Path | None = Field(None, description="a folder of files")
    item_key: str | None = Field(None, description="the items file's column with the keys; by default the item id")
    item_column: str | None = Field(None, description="the items file's column of file names within the folder")
    separator: str | None = Field(None, min_length=1, description="between several file names of one item")

    @model_validator(mode="after")
    def _one_kind(self) -> MediaConfig:
        if self.path is not None and self.paths:
            raise ValueError("give either path or paths")
        if bool(self.files) == (self.folder is not None):
            raise ValueError("give either Parquet files (path or paths) or a folder")
        if self.files and (self.key is None or self.bytes is None or self.item_column is not None):
            raise ValueError("Parquet files need key and bytes (and no item_column)")
        if self.folder is not None and (self.key is not None or self.bytes is not None):
            raise ValueError("key and bytes are columns of Parquet files; a folder has none")
        if self.item_column is not None and self.item_key is not None:
            raise ValueError("give item_key or item_column")
        if self.separator is not None and self.item_column is None:
            raise ValueError("separator needs item_column")
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """The Parquet files as they were given."""
        return self.paths if self.path is None else (self.path,)


class MovielensConfig(Settings):
    """GroupLens' MovieLens sets: ml-100k, ml-1m (and ml-10m), ml-latest (ml-20m, 25m, 32m), found by their files.

    A rating is no behaviour by itself: ``watched`` would make every event positive. Liking is.
    """

    behaviours: tuple[BehaviourRule, ...] = Field(
        (
            BehaviourRule(name="like", column="rating", at_least=4),
            BehaviourRule(name="love", column="rating", at_least=5),
        ),
        min_length=1,
        description="rules over the column 'rating'",
    )


class MindConfig(Settings):
    """MIND (Wu et al., ACL 2020): behaviors.tsv and news.tsv, also .gz, with or without a header line."""

    folders: tuple[Path, ...] = Field(
        (Path("."),),
        min_length=1,
        description="folders under data.root with the two files, e.g. MINDsmall_train, MINDsmall_dev",
    )
    history: bool = Field(True, description="take the clicks before the log (column history) as interactions too")
    history_spacing_seconds: float = Field(
        3600,
        gt=0,
        le=10_000_000,
        description="the history has no times: its clicks are laid before the log's first impression, so far apart",
    )


class DataConfig(Settings):
    """Where the data come from.

    ``generic`` reads any log by the mapping in ``interactions`` and ``items``; ``movielens`` and ``mind`` know their
    files; ``synthetic`` makes a planted world.
    """

    adapter: Literal["generic", "movielens", "mind", "synthetic"]
    root: Path | None = Field(None, description="folder that relative paths are under; by default the working folder")
    interactions: InteractionsConfig | None = Field(None, description="generic: the log")
    items: ItemsConfig | None = Field(None, description="generic: the content; without it, items are those of the log")
    images: MediaConfig | None = None
    audio: MediaConfig | None = None
    queries: QueriesConfig | None = Field(None, description="generic: searches that led to items")
    movielens: MovielensConfig = MovielensConfig()
    mind: MindConfig = MindConfig()
    world: WorldConfig = Field(WorldConfig(), description="synthetic: the planted world")
    unknown_items: Literal["error", "drop", "add"] = Field(
        "error",
        description="interactions with items that the items file lacks: refuse, drop and count, "
        "or add the items without content",
    )
    user_ids: IdType = Field("auto", description="type of user ids; auto: int64 if all are written as integers")
    item_ids: IdType = Field("auto", description="type of item ids; auto: int64 if all are written as integers")
    future_tolerance_hours: float = Field(
        24, ge=0, le=1_000_000, description="how far ahead of this machine's clock a timestamp may be"
    )

    @model_validator(mode="after")
    def _fits_adapter(self) -> DataConfig:
        if (self.adapter == "generic") != (self.interactions is not None):
            raise ValueError(
                "'interactions' describes the log of the generic adapter, which needs it; other adapters know theirs"
            )
        if self.items is not None and self.adapter != "generic":
            raise ValueError("'items' belongs to the generic adapter")
        if self.queries is not None and self.adapter != "generic":
            raise ValueError("'queries' belongs to the generic adapter")
        if (self.images or self.audio) and self.adapter == "synthetic":
            raise ValueError("the synthetic adapter makes its own images and audio")
        for kind, media in (("images", self.images), ("audio", self.audio)):
            if media is None or self.adapter != "generic" or self.items is not None:
                continue
            if column := media.item_key or media.item_column:
                raise ValueError(
                    f"{kind}: '{column}' is to be a column of the items file, but there is no 'items' section: "
                    "add one, or name the media by item id"
                )
        return self

    def resolve(self, path: Path) -> Path:
        """A path of the recipe, under the root."""
        path = path.expanduser()
        return path if self.root is None else self.root.expanduser() / path
