"""The ``movielens`` adapter: GroupLens' sets, known by the files in their folder.

Layouts (https://grouplens.org/datasets/movielens): ml-100k (u.data, u.item), ml-1m and ml-10m (ratings.dat,
movies.dat), ml-latest, ml-20m, 25m and 32m (ratings.csv, movies.csv, tags.csv, links.csv). Each file may be gzipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.violations import Violations
from recdistill.errors import UserError
from recdistill.ingest.columns import Columns
from recdistill.ingest.config import DataConfig, InteractionColumns, InteractionsConfig, LabelsColumn, TableFile
from recdistill.ingest.convert import plain, to_lists, to_text
from recdistill.ingest.generic import Raw, assemble
from recdistill.ingest.items import Catalogue, labels_of, media_columns
from recdistill.ingest.readers import Source, check_columns, header, is_utf8, read_whole

_TITLE = r"^\s*(?P<title>.*?)\s*\((?P<year>[12][0-9]{3})(?:[-–][0-9]{0,4})?\)\s*$"
_NO_GENRE = "(no genres listed)"
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How one family of MovieLens sets is written.

    Attributes:
        ratings, movies, tags, links: names of the files; tags and links may be absent.
        delimiter, quote, headed: of all of them.
        encoding: of a file that is no UTF-8; GroupLens ships ml-1m in latin-1 and ml-10m, of the same layout, in UTF-8.
        movie_columns: names of the movie file's columns.
    """

    name: str
    ratings: str
    movies: str
    delimiter: str
    movie_delimiter: str
    encoding: str
    quote: str | None
    headed: bool
    movie_columns: tuple[str, ...]
    tags: str | None = None
    links: str | None = None


LAYOUTS = (
    Layout(
        "ml-100k",
        "u.data",
        "u.item",
        "\t",
        "|",
        "latin-1",
        None,
        False,
        ("movieId", "title", "released", "video", "url", *(f"genre {genre}" for genre in _GENRES_100K)),
    ),
    Layout(
        "ml-1m",
        "ratings.dat",
        "movies.dat",
        "::",
        "::",
        "latin-1",
        None,
        False,
        ("movieId", "title", "genres"),
        tags="tags.dat",
    ),
    Layout(
        "ml-latest",
        "ratings.csv",
        "movies.csv",
        ",",
        ",",
        "utf-8",
        '"',
        True,
        ("movieId", "title", "genres"),
        "tags.csv",
        "links.csv",
    ),
)
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_TAG_COLUMNS = ("userId", "movieId", "tag", "timestamp")


def find_files(config: DataConfig) -> tuple[Layout, dict[str, Path]]:
    """The set's layout and its files (ratings, movies, perhaps tags and links), relative to the root.

    Raises:
        UserError: no layout fits, or one only in part.
    """
    root = config.resolve(Path("."))
    inner = sorted(Path(p.name) for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    partly = ""
    for folder in (Path("."), *inner):
        for layout in LAYOUTS:
            found = {
                part: _there(root, folder, getattr(layout, part)) for part in ("ratings", "movies", "tags", "links")
            }
            files = {part: path for part, path in found.items() if path is not None}
            if "ratings" in files and "movies" in files:
                return layout, files
            if files:
                lacks = [getattr(layout, part) for part in ("ratings", "movies") if part not in files]
                partly = f"; {layout.name} lacks {' and '.join(lacks)}"
    raise UserError(
        f"{root}: no MovieLens set here or in its subfolders{partly}",
        remedy="point data.root at the unpacked set, with "
        + ", or ".join(f"{x.ratings} and {x.movies} ({x.name})" for x in LAYOUTS),
    )


def read_movielens(config: DataConfig, into: Violations) -> Raw | None:
    """Read a set: titles, years, genres, users' tags as labels for judges, and ratings by ``data.movielens``."""
    layout, files = find_files(config)
    log = InteractionsConfig(
        path=files["ratings"],
        delimiter=layout.delimiter,
        encoding=_encoding(config.resolve(files["ratings"]), layout),
        quote=layout.quote,
        column_names=() if layout.headed else _RATING_COLUMNS,
        behaviours=config.movielens.behaviours,
        columns=InteractionColumns(user="userId", item="movieId", timestamp="timestamp", value="rating"),
    )
    catalogue = _movies(config, layout, files, into)
    raw = assemble(config, log, catalogue, into, has_items=True)
    if raw is not None:
        raw.counts["layout"] = layout.name
    return raw


def _movies(config: DataConfig, layout: Layout, files: dict[str, Path], into: Violations) -> Catalogue | None:
    form = TableFile(
        path=files["movies"],
        delimiter=layout.movie_delimiter,
        encoding=_encoding(config.resolve(files["movies"]), layout),
        quote=layout.quote,
        column_names=() if layout.headed else layout.movie_columns,
    )
    source = Source(config.resolve(files["movies"]), str(files["movies"]), form)
    block = read_whole(source, layout.movie_columns, into)
    if block is None:
        return None
    ids = Columns(source, block, into).ids("movieId")
    titles = plain(block.table["title"])
    parts = pc.extract_regex(titles, _TITLE)
    columns = {
        names.ITEM_ID: ids if config.item_ids != "string" else ids.cast(pa.string()),
        f"{names.TEXT_PREFIX}title": pc.coalesce(pc.struct_field(parts, "title"), pc.utf8_trim_whitespace(titles)),
        f"{names.TAGS_PREFIX}genres": _genres(block.table),
        f"{names.NUMBER_PREFIX}year": pc.struct_field(parts, "year").cast(pa.float64()),
    }
    if "tags" in files:
        labels = LabelsColumn(
            path=files["tags"],
            delimiter=layout.delimiter,
            encoding=_encoding(config.resolve(files["tags"]), layout),
            quote=layout.quote,
            column_names=() if layout.headed else _TAG_COLUMNS,
            item="movieId",
            column="tag",
        )
        columns[f"{names.LABELS_PREFIX}tags"] = labels_of(labels, config, plain(ids), into)
    table = pa.table(columns)
    checker = Checker(load_contract("items"), into=into)
    checker.add(table, Origin(source.shown, block.rows, {names.ITEM_ID: "movieId"}))
    checker.finish()
    keys = _links(config, layout, files, plain(ids), into)
    order = pc.sort_indices(table[names.ITEM_ID])
    return Catalogue(
        table.take(order),
        {name: key.take(order) for name, key in keys.items()},
        {"rows_read": len(table), "dropped": {}},
    )


def _genres(table: pa.Table) -> pa.Array:
    if "genres" in table.column_names:
        genres = plain(table["genres"])
        return to_lists(pc.if_else(pc.equal(genres, _NO_GENRE), pa.scalar(None, genres.type), genres), separator="|")[0]
    texts = None
    for genre in _GENRES_100K[1:]:  # the first is "unknown"
        flag = pc.if_else(pc.equal(table[f"genre {genre}"], "1"), genre, "")
        texts = flag if texts is None else pc.binary_join_element_wise(texts, flag, "|")
    return to_lists(texts, separator="|")[0]


def _links(
    config: DataConfig, layout: Layout, files: dict[str, Path], ids: pa.Array, into: Violations
) -> dict[str, pa.Array]:
    """Columns by which media may be found: the ids of other sites, if the set has them."""
    wanted = media_columns(config.images, config.audio)
    if not wanted:
        return {}
    if "links" not in files:
        raise UserError(
            f"item_key {wanted[0]} needs links.csv, which {layout.name} lacks",
            remedy="name media by the movie's id, without item_key",
        )
    source = Source(config.resolve(files["links"]), str(files["links"]), TableFile(path=files["links"]))
    found = header(source, into)
    if found is None or not check_columns(source, ["movieId", *wanted], found, into):
        return {name: pa.nulls(len(ids), pa.string()) for name in wanted}
    block = read_whole(source, ["movieId", *wanted], into)
    if block is None:
        return {name: pa.nulls(len(ids), pa.string()) for name in wanted}
    rows = pc.index_in(ids.cast(pa.string()), value_set=plain(block.table["movieId"]))
    return {name: to_text(block.table[name])[0].take(rows) for name in wanted}


def _encoding(path: Path, layout: Layout) -> str:
    return "utf-8" if is_utf8(path) else layout.encoding


def _there(root: Path, folder: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    return next((folder / n for n in (name, f"{name}.gz") if (root / folder / n).is_file()), None)
