"""The ``pair`` stage: log, catalogue, teacher tables and query table → a ``pair_dataset`` table a dataset and fit.

Memory: the training log (about 60 bytes an event), the tags and texts of the catalogue, 24 bytes a pair of the dataset
at work before it is drawn (at most items × neighbours of them), and a block of a sparse product (about 240 MB).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, write_json, write_table
from recdistill.pairs.behaviour import Searches, training_log
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.co_consumption import co_consumption
from recdistill.pairs.co_search import co_search
from recdistill.pairs.config import DatasetConfig, PairsConfig
from recdistill.pairs.found import Found, nothing
from recdistill.pairs.id_cluster import id_cluster
from recdistill.pairs.item_label import item_label
from recdistill.pairs.query_item import query_item
from recdistill.pairs.same_author import same_author
from recdistill.pairs.same_tag import same_tag
from recdistill.pairs.session import session
from recdistill.pairs.teacher_space import teacher_space
from recdistill.pairs.text_ngram import text_ngram
from recdistill.progress import track

SUMMARY = "pairs.json"
_NO_QUERIES = "the recipe names no query table (data.queries)"
_NOTHING = "nothing passes the thresholds"

Make = tuple[DatasetConfig, Callable[[], Found]]


def pair(
    config: PairsConfig, *, fold: Fold, items: Path, queries: Path | None, teach: Path | None, out: Path, seed: int
) -> None:
    """Write ``out/<fit>/<dataset>.parquet`` for both fits, empty ones too, and ``out/pairs.json``.

    Datasets of content draw on the whole catalogue, new items included, and are the same in both fits; those of
    behaviour draw on what the fit may learn from alone (:meth:`Fold.training`, :meth:`Fold.may_learn`, its teachers).

    Args:
        items: the ``items`` table; queries: the ``queries`` table, if there is one.
        teach: folder with ``<fit>/<teacher>.parquet``; not needed where no dataset reads a teacher.

    Raises:
        UserError: a field that the settings name is not in the items table, or a table is missing.
    """
    catalogue = Catalogue(items, fold.item_ids())
    summary: dict[str, Any] = {}
    content = dict(_of_content(config, catalogue, seed))
    with track("pair · datasets", len(content) + len(FITS) * (len(config.datasets()) - len(content))) as advance:
        made = {}
        for name, make in content.items():
            made[name] = _made(make, seed)
            advance(1)
        for fit in FITS:
            known = _Known(fold, fit, catalogue, queries, teach)
            summary[fit] = {}
            of_fit = dict(_of_behaviour(config, known, seed))
            for name in config.datasets():
                if name in of_fit:
                    found, seconds = _made(of_fit[name], seed)
                    advance(1)
                else:
                    found, seconds = made[name]
                about = {"dataset": name, "kind": name, **_figures(found)}
                write_table(
                    found.table(catalogue.kind),
                    out / fit / f"{name}.parquet",
                    metadata={**about, "fit": fit, "seed": seed},
                )
                summary[fit][name] = {**about, **found.about, "seconds": round(seconds, 3)}
    write_json(summary, out / SUMMARY)


@dataclass(frozen=True)
class _Known:
    """What a fit may know of behaviour; nothing is read before it is asked for."""

    fold: Fold
    fit: Fit
    catalogue: Catalogue
    queries: Path | None
    teach: Path | None

    @cached_property
    def log(self) -> Log:
        return training_log(self.fold, self.fit, self.catalogue.ids)

    @cached_property
    def searches(self) -> Searches | None:
        if self.queries is None:
            return None
        return Searches.read(self.queries, self.fold, self.fit, self.catalogue.ids)

    def teacher(self, name: str) -> EmbeddingTable:
        if self.teach is None:
            raise ValueError(f"no folder of teacher tables is given, and '{name}' is asked for")
        return EmbeddingTable.read(self.teach / self.fit / f"{name}.parquet")


def _of_content(config: PairsConfig, catalogue: Catalogue, seed: int) -> Iterator[tuple[str, Make]]:
    if (tag := config.same_tag) is not None:
        yield "same_tag", (tag, partial(same_tag, tag, catalogue, seed=seed))
    if (author := config.same_author) is not None:
        yield "same_author", (author, partial(same_author, author, catalogue, seed=seed))
    if (ngram := config.text_ngram) is not None:
        yield "text_ngram", (ngram, partial(text_ngram, ngram, catalogue, seed=seed))
    if (label := config.item_label) is not None:
        yield "item_label", (label, partial(item_label, label, catalogue))


def _of_behaviour(config: PairsConfig, known: _Known, seed: int) -> Iterator[tuple[str, Make]]:
    catalogue = known.catalogue
    if (together := config.co_consumption) is not None:
        yield "co_consumption", (together, lambda: co_consumption(together, catalogue, known.log, seed=seed))
    if (sitting := config.session) is not None:
        yield "session", (sitting, lambda: session(sitting, catalogue, known.log, seed=seed))
    if (space := config.teacher_space) is not None:
        yield "teacher_space", (space, lambda: teacher_space(space, catalogue, known.teacher(space.teacher), seed=seed))
    if (cluster := config.id_cluster) is not None:
        yield "id_cluster", (cluster, lambda: id_cluster(cluster, catalogue, known.teacher(cluster.teacher), seed=seed))
    if (search := config.co_search) is not None:
        yield "co_search", (search, lambda: _searched(known, lambda s: co_search(search, catalogue, s, seed=seed)))
    if (answer := config.query_item) is not None:
        yield "query_item", (answer, lambda: _searched(known, lambda s: query_item(answer, catalogue, s)))


def _searched(known: _Known, make: Callable[[Searches], Found]) -> Found:
    if known.searches is None:
        return nothing(known.catalogue.ids, _NO_QUERIES)
    return make(known.searches)


def _made(make: Make, seed: int) -> tuple[Found, float]:
    config, work = make
    started = time.monotonic()
    return work().draw(config.max_pairs, seed=seed), time.monotonic() - started


def _figures(found: Found) -> dict[str, Any]:
    return {
        "sides": ["text" if side.text else "item" for side in (found.query, found.target)],
        "graded": found.graded,
        "rows": len(found),
        "queries": len(np.unique(found.query.rows)),
        "targets": len(np.unique(found.target.rows)),
        "why_empty": None if len(found) else found.why or _NOTHING,
    }
