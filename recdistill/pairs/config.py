"""Settings of the ``pair`` stage: a section a dataset, null for one that is left out."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from recdistill.settings import Settings

OF_QUERIES = ("co_search", "query_item")  # the datasets that need a query table


class DatasetConfig(Settings):
    """What every dataset has."""

    max_pairs: int = Field(100_000, ge=1, description="pairs kept at most, drawn at random above it")


class NeighboursConfig(DatasetConfig):
    """A dataset of each item's nearest."""

    neighbours: int = Field(10, ge=1, description="targets of an item at most")


class TogetherConfig(NeighboursConfig):
    """Items that meet in the same groups more often than chance would have it (see ``pairs.associations``)."""

    min_together: int = Field(2, ge=1, description="groups that a pair has in common at least")
    shrinkage: float = Field(
        1.0,
        ge=0,
        description="a pair with n groups in common counts n / (n + this) of its likeness: few prove little, but much "
        "of this brings popularity back",
    )
    max_per_group: int = Field(300, ge=2, description="items of a group that count, drawn at random above it")


class CoConsumptionConfig(TogetherConfig):
    """Items that the same users were positive about."""

    min_positive: int = Field(1, ge=1, description="behaviours that make an event positive")


class SessionConfig(TogetherConfig):
    """Items that a user was positive about in one session: events that follow each other closely."""

    min_positive: int = Field(1, ge=0, description="behaviours that an event needs; 0: being met is enough")
    gap_seconds: float = Field(1800, gt=0, description="a longer pause begins a new session")


class CoSearchConfig(TogetherConfig):
    """Items that were taken from the results of the same query."""

    min_together: int = Field(1, ge=1, description="queries that a pair has in common at least")


class SharedValuesConfig(NeighboursConfig):
    """Items that share rare values: Jaccard similarity weighted by inverse document frequency."""

    max_share: float = Field(0.1, gt=0, le=1, description="a value of a larger share of the items says too little")
    max_items: int = Field(
        1000, ge=2, description="nor does one of more items than this, and it costs its square in time"
    )


class SameTagConfig(SharedValuesConfig):
    """Items that share rare tags."""

    fields: tuple[str, ...] | None = Field(None, min_length=1, description="tags fields that count; null: all")


class SameAuthorConfig(SharedValuesConfig):
    """Items of the same people."""

    field: str | None = Field(
        None, description="the tags field that names them; null: the first of author, artist, director, creator …"
    )


class TextNgramConfig(SharedValuesConfig):
    """Items whose texts share rare runs of words."""

    fields: tuple[str, ...] | None = Field(None, min_length=1, description="text fields that count; null: all")
    words: int = Field(2, ge=1, description="length of a run")
    max_share: float = Field(0.01, gt=0, le=1, description="a run in a larger share of the items says too little")
    max_items: int = Field(100, ge=2, description="nor does one in more items than this")


class TeacherTableConfig(DatasetConfig):
    """A dataset of a teacher's vectors."""

    teacher: str = Field("id_teacher", description="teacher table")
    min_support: int = Field(5, ge=0, description="interactions behind a vector, where the table says them")


class TeacherSpaceConfig(TeacherTableConfig, NeighboursConfig):
    """Items near in a teacher's space, by the cosine of centred vectors."""


class IdClusterConfig(TeacherTableConfig):
    """Items of one cluster of a teacher's space."""

    clusters: int = Field(64, ge=1, description="k-means clusters, at most one per ten items")
    partners: int = Field(5, ge=1, description="others of the cluster, drawn at random, that an item is paired with")


class ItemLabelConfig(DatasetConfig):
    """An item and the text of each of its tags, ``genres: Comedy``: classification as item → text."""

    fields: tuple[str, ...] | None = Field(None, min_length=1, description="tags fields that count; null: all")
    min_items: int = Field(5, ge=1, description="items that have the tag at least")
    max_share: float = Field(0.5, gt=0, le=1, description="a tag of a larger share of the items says too little")


class QueryItemConfig(DatasetConfig):
    """A search query and an item taken from its results."""


class PairsConfig(Settings):
    """The datasets; null leaves one out. One that the data cannot give stays empty, and the summary says why."""

    co_consumption: CoConsumptionConfig | None = CoConsumptionConfig()
    session: SessionConfig | None = SessionConfig()
    co_search: CoSearchConfig | None = CoSearchConfig()
    same_tag: SameTagConfig | None = SameTagConfig()
    same_author: SameAuthorConfig | None = SameAuthorConfig()
    teacher_space: TeacherSpaceConfig | None = TeacherSpaceConfig()
    id_cluster: IdClusterConfig | None = IdClusterConfig()
    text_ngram: TextNgramConfig | None = TextNgramConfig()
    item_label: ItemLabelConfig | None = ItemLabelConfig()
    query_item: QueryItemConfig | None = QueryItemConfig()

    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that are made, each a table of a fit's folder."""
        return tuple(name for name, of in self if of is not None)

    def teachers(self) -> Iterator[tuple[str, str]]:
        """(dataset, teacher table) of those that read one."""
        for name, of in (("teacher_space", self.teacher_space), ("id_cluster", self.id_cluster)):
            if of is not None:
                yield name, of.teacher
