"""A map of the space, and what lies next to what: before distillation and after.

Shapes: m drawn items, I items, d width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.report.blocks import Block, Item, Map, Section, Strip, Strips, Text, absent
from recdistill.report.catalogue import Catalogue
from recdistill.report.charts import CYCLE
from recdistill.report.folder import RunFolder

_SUBJECTS = (("student", "Student"), ("content_student", "Content-only student"))
_POINTS = 1000
_PICTURES = 400
_COLOURED = len(CYCLE)
_NEIGHBOURS = 5
_FIELDS = 5
_QUERIES = 6
_SEED = 0


def space(run: RunFolder) -> Section:
    """The map of the first seed's and fold's vectors, and neighbours of a few items."""
    title = "The space"
    if run.first is None:
        return absent("space", title, "seed-*/<fold>/distill")
    place = run.first.relative_to(run.root)
    tables = {
        label: table
        for name, label in _SUBJECTS
        if (table := run.embeddings(place, "distill", "final", f"{name}.parquet"))
    }
    catalogue = Catalogue.read(run.root / "data", limits=run.media_limits)
    if not tables or catalogue is None:
        return absent("space", title, f"{place}/distill/final/student.parquet or data/items.parquet")
    ids = next(iter(tables.values())).ids
    support = _support(run, place.name)
    cold = _cold(run, place.name)
    drawn = _draw(ids, support)
    queries = _queries(drawn, support, cold)
    near = {label: _neighbours(table, queries) for label, table in tables.items()}
    shown = pd.Index(queries).append([pd.Index(row) for rows in near.values() for row in rows]).unique()
    pictures = catalogue.pictures(drawn[:_PICTURES].union(shown, sort=False))
    blocks: list[Block] = [
        Text(
            f"{len(drawn):,} items of the catalogue's {len(ids):,} in two dimensions (t-SNE of cosine distances). "
            "Items that training never saw have a ring. Point at an item, or tap it, to see it."
        ),
        _map(tables, drawn, catalogue, pictures, cold),
        Text(
            f"Nearest neighbours of {len(queries)} items, of all {len(ids):,}. A ring marks items that training never "
            "saw."
        ),
    ]
    for at, query in enumerate(queries):
        strips = tuple(
            Strip(label, tuple(_item(item, catalogue, pictures, cold) for item in rows[at]))
            for label, rows in reversed(near.items())
        )
        head = _item(query, catalogue, pictures, cold)
        blocks.append(Strips(head.title, strips, head))
    return Section("space", title, tuple(blocks))


def project(vectors: np.ndarray, *, seed: int = _SEED) -> np.ndarray:
    """[m, d] → [m, 2] in the unit square: t-SNE of cosine distances, PCA for fewer than ten items."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    unit += (
        np.random.default_rng(seed).normal(scale=1e-6, size=unit.shape).astype(np.float32)
    )  # equal vectors stall t-SNE
    with threadpool_limits(1):  # so few points are slower with more
        if len(unit) < 3:
            flat = np.arange(2 * len(unit), dtype=np.float64).reshape(-1, 2)
        elif len(unit) < 10 or unit.shape[1] < 2:
            flat = np.pad(PCA(min(2, *unit.shape), random_state=seed).fit_transform(unit), ((0, 0), (0, 1)))[:, :2]
        else:
            perplexity = min(30.0, (len(unit) - 1) / 3)
            flat = TSNE(
                2, metric="cosine", init="pca", perplexity=perplexity, max_iter=500, random_state=seed, n_jobs=1
            ).fit_transform(unit)
    low, high = flat.min(axis=0), flat.max(axis=0)
    return np.asarray((flat - low) / np.maximum(high - low, 1e-12), dtype=np.float64)


def _map(
    tables: dict[str, EmbeddingTable], drawn: pd.Index, catalogue: Catalogue, pictures: dict[Any, str], cold: pd.Index
) -> Map:
    vectors = {label: table.align(drawn)[0] for label, table in tables.items()}
    spaces = [{"name": label, "xy": np.round(project(of), 4).tolist()} for label, of in vectors.items()]
    fields = _fields(next(iter(vectors.values())), drawn, catalogue)
    points = [
        {"title": str(catalogue.titles.get(item, item)), "cold": bool(new), "picture": pictures.get(item)}
        for item, new in zip(drawn, drawn.isin(cold), strict=True)
    ]
    data = {"points": points, "spaces": spaces, "fields": fields, "colours": list(CYCLE)}
    alt = f"Scatter of {len(points)} items in two dimensions"
    alt += f", coloured by {fields[0]['name']}" if fields else ""
    return Map(data, f"{alt}; the neighbours below say the same in words.")


def _fields(vectors: np.ndarray, drawn: pd.Index, catalogue: Catalogue) -> list[dict[str, Any]]:
    """What the map can be coloured by, first what the space's neighbours agree in most.

    Returns:
        for each field its name, its commonest classes, each point's class (-1: another) and each point's tags.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    near = np.argsort(-scores, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(drawn) - 1)]
    found = []
    for field, of in catalogue.tags.items():
        tags = of.reindex(drawn).tolist()
        common = (
            pd.Series([tag for part in tags for tag in part], dtype=object).value_counts().index[:_COLOURED].tolist()
        )
        colour = np.array([next((common.index(tag) for tag in part if tag in common), -1) for part in tags])
        share = np.bincount(colour[colour >= 0], minlength=1) / max(1, int((colour >= 0).sum()))
        agreement = (
            float((colour[near] == colour[:, None])[colour >= 0].mean() - (share**2).sum()) if near.size else 0.0
        )
        words = [", ".join(part[:4]) for part in tags]
        found.append((agreement, {"name": field, "classes": common, "colour": colour.tolist(), "tags": words}))
    return [field for _, field in sorted(found, key=lambda pair: -pair[0])[:_FIELDS]]


def _item(item: object, catalogue: Catalogue, pictures: dict[Any, str], cold: pd.Index) -> Item:
    return Item(str(catalogue.titles.get(item, item)), pictures.get(item), item in cold)


def _neighbours(table: EmbeddingTable, queries: pd.Index) -> list[list[object]]:
    """For each query the ids of its nearest items by cosine."""
    unit = table.vectors / np.maximum(np.linalg.norm(table.vectors, axis=1, keepdims=True), 1e-12)
    rows = table.ids.get_indexer(queries)
    scores = unit[rows] @ unit.T
    scores[np.arange(len(rows)), rows] = -np.inf
    near = np.argsort(-scores, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(unit) - 1)]
    return [[table.ids[at] for at in row] for row in near]


def _support(run: RunFolder, fold: str) -> pd.Series:
    """Training interactions of each item; empty where the split is absent."""
    path = run.root / "split" / fold / "train.parquet"
    if not path.exists():
        return pd.Series(dtype=np.int64)
    return pd.Series(read_table(path, columns=[names.ITEM_ID])[names.ITEM_ID].to_pandas()).value_counts()


def _cold(run: RunFolder, fold: str) -> pd.Index:
    path = run.root / "split" / fold / "items.parquet"
    if not path.exists():
        return pd.Index([])
    items = read_table(path).to_pandas()
    return pd.Index(items.loc[items[names.ROLE] == "test_cold", names.ITEM_ID])


def _draw(ids: pd.Index, support: pd.Series) -> pd.Index:
    """Half the points are the best known items, in that order; the others are drawn from the rest."""
    order = support.reindex(ids, fill_value=0).to_numpy()
    known = np.argsort(-order, kind="stable")[: _POINTS // 2]
    rest = np.setdiff1d(np.arange(len(ids)), known)
    drawn = np.random.default_rng(_SEED).permutation(rest)[: _POINTS - len(known)]
    mixed = np.concatenate(
        [known[: _PICTURES // 2], drawn[: _PICTURES // 2], known[_PICTURES // 2 :], drawn[_PICTURES // 2 :]]
    )
    return ids[mixed]


def _queries(drawn: pd.Index, support: pd.Series, cold: pd.Index) -> pd.Index:
    """Two thirds items that training knew well, one third new ones where there are any."""
    new = drawn[drawn.isin(cold)][: _QUERIES // 3]
    known = drawn[~drawn.isin(cold)]
    known = known[np.argsort(-support.reindex(known, fill_value=0).to_numpy(), kind="stable")]
    step = max(1, min(len(known), 60) // (_QUERIES - len(new)))  # not only the very best known
    return known[::step][: _QUERIES - len(new)].append(new)
