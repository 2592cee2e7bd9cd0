"""What a report is made of. Texts are plain here; the template escapes them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "bad", "soft"]


@dataclass(frozen=True)
class Text:
    """A paragraph: plain, a lead, a note, or a warning."""

    kind: ClassVar[str] = "text"
    text: str
    style: Literal["plain", "lead", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Figure:
    """A picture as a data URI, with the text that stands for it where it cannot be seen."""

    kind: ClassVar[str] = "figure"
    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Cell:
    """A table cell: a value, its interval below, whether it is the best of its column, and a hint on pointing at it."""

    text: str
    interval: str = ""
    best: bool = False
    tone: Tone = ""
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A table row: its head, and a cell a column."""

    head: str
    cells: tuple[Cell, ...]
    emphasis: bool = False


@dataclass(frozen=True)
class Table:
    """A table; ``columns`` does not count the column of row heads, whose title is ``corner``.

    Attributes:
        words: numbers of the columns that hold words, not figures.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    corner: str = ""
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tile:
    """One figure that matters, large."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    """A few figures that matter."""

    kind: ClassVar[str] = "tiles"
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title that opens them; print shows them."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple[Any, ...]
    open: bool = False


@dataclass(frozen=True)
class Item:
    """An item as the report shows it: its title, and a small picture if it has one."""

    title: str
    picture: str | None = None
    cold: bool = False


@dataclass(frozen=True)
class Strip:
    """A named row of items, leading to one more if ``target`` is given."""

    label: str
    items: tuple[Item, ...]
    target: Item | None = None


@dataclass(frozen=True)
class Strips:
    """Strips of items under one heading, which may be an item itself."""

    kind: ClassVar[str] = "strips"
    heading: str
    strips: tuple[Strip, ...]
    item: Item | None = None


@dataclass(frozen=True)
class Map:
    """Points of the space, one set of coordinates a subject, for the page's script."""

    kind: ClassVar[str] = "map"
    data: dict[str, Any]
    alt: str


Block = Text | Figure | Table | Facts | Tiles | Fold | Strips | Map


@dataclass(frozen=True)
class Section:
    """A chapter of the report; ``anchor`` is its place in the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


def absent(anchor: str, title: str, missing: str) -> Section:
    """A section that could not be made, saying which file it wants."""
    return Section(anchor, title, (Text(f"Left out: this run folder has no {missing}.", "note"),))
