"""The ``export`` stage: one student's vectors, codes, match features, reactions and the student itself.

Memory: 12 · I · d bytes for the vectors, 100 bytes an event of the log, 60 bytes a match row.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.negatives import negatives_of
from recdistill.contracts.tables import EmbeddingTable, read_table, write_json, write_table
from recdistill.contracts.trained import until_metadata
from recdistill.errors import UserError
from recdistill.export.config import ExportConfig
from recdistill.export.level import new_item_level, unknown_items
from recdistill.features.content_level import ContentLevel, level_file
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import BASIS, MatchItems
from recdistill.features.match_log import match_log
from recdistill.features.semantic_ids import (
    fit_codebooks,
    kept,
    quality,
    read_codes,
    tag_pairs,
    to_items_table,
    to_table,
)
from recdistill.features.space import Space, to_unit
from recdistill.retrieval.config import LevelConfig, QuestionsConfig
from recdistill.retrieval.levels import with_level

CODEBOOKS = "semantic_id_codebooks.safetensors"
CONTENT_LEVEL = "content_level.safetensors"
MANIFEST = "export.json"


def export(
    config: ExportConfig,
    level: LevelConfig,
    questions: QuestionsConfig,
    *,
    data: Path,
    fold: Fold,
    distill: Path,
    min_negative_share: float,
    out: Path,
    seed: int,
) -> None:
    """Write the final student's products into ``out``.

    ``item_embeddings.parquet`` (whole catalogue, with the new-item level of items that training did not know) ·
    ``recall_embeddings.parquet`` (the same with the level as a last coordinate, for a dot product) ·
    ``semantic_ids.parquet`` and ``sid_items.parquet`` (ID → items), with the codebooks that code new items ·
    ``match_features.parquet`` (the test window's events against each user's history strictly before: match features
    and, where the log has negatives of its own, reactions; the level is no part of them), with the
    ``match_basis.safetensors`` by which ``features.match_table`` and a service compute the same for other events ·
    ``student/`` (``AutoModel.from_pretrained`` after ``import recdistill``) · ``mlflow_model/`` (pyfunc) · where the
    student gives items a level of their own, ``content_level.safetensors``, by which ``mlflow_model/`` tells that of an
    item it has never seen, beside the new-item level · ``export.json`` (provenance, widths, counts, the level, sha256
    of every file).

    All is of the final fit, which has learned from everything before the test window. The tables' metadata and
    ``export.json`` tell until when (``trained_until``); who joins earlier rows is warned
    (:mod:`recdistill.contracts.trained`).

    Args:
        level: how the new-item level is found; the selection fit's student is asked where validation tells it.
        questions: those of the validation window.
        data: folder with the canonical ``items`` table.
        distill: folder with ``final/student.parquet``, ``final/student/`` and ``selection/student.parquet``; and
            ``final/student_level.safetensors``, if the table has levels.
        min_negative_share: as the rank stage has it (``labels.min_negative_share``), so that teams are given reactions
            where that stage gives them to its rankers.

    Raises:
        UserError: the student or its table is missing, the table does not cover the catalogue, or the semantic IDs
            cannot be fitted as the settings say (:func:`recdistill.features.semantic_ids.fit_codebooks`).
    """
    table = EmbeddingTable.read(distill / "final" / "student.parquet")
    item_ids = _catalogue(data / "items.parquet", table, distill / "final" / "student.parquet")
    vectors, _ = table.align(item_ids)
    if table.metadata.get("geometry") == "cosine":
        vectors = to_unit(vectors, mean=np.zeros(vectors.shape[1], dtype=np.float32))  # as the student encodes
    rows = table.ids.get_indexer(item_ids)
    support, confidence = (None if part is None else part[rows] for part in (table.support, table.confidence))
    provenance = {**table.metadata, "fold": fold.name, "seed": seed, "fit": "final", "centred": config.centre}
    provenance |= until_metadata(fold.trained_until("final"))
    raised = new_item_level(level, questions, fold, distill / "selection" / "student.parquet", seed=seed)
    levels = np.where(unknown_items(fold, "final", item_ids), raised, 0.0)
    own = table.align_level(item_ids)
    levels = (levels if own is None else levels + own).astype(np.float32)
    embeddings = EmbeddingTable(item_ids, vectors, support, confidence, provenance, level=levels)
    embeddings.write(out / "item_embeddings.parquet")
    _served(embeddings).write(out / "recall_embeddings.parquet")

    space = Space.of(embeddings, item_ids, centre=config.centre)
    coded_items, coded = _semantic_ids(config, data / "items.parquet", embeddings, mean=space.mean, out=out, seed=seed)

    windows = fold.targets("selection"), fold.targets("final")
    negatives = negatives_of(*windows, min_share=min_negative_share)
    reaction = config.reaction if negatives == "logged" else None
    basis = MatchBasis.fit(space, config.match, seed=seed, reaction=reaction)
    basis.save(out / BASIS)
    match_items = MatchItems.of(basis, embeddings, coded_items)
    matched = _match(config, fold.history("final"), windows[1], match_items)
    write_table(matched, out / "match_features.parquet", metadata={**provenance, **basis.settings()})
    _copy_folder(distill / "final" / "student", out / "student")
    if own is not None:
        _content_level(distill / "final" / level_file("student")).save(out / CONTENT_LEVEL)
    if config.mlflow_model:
        of_content = None if own is None else out / CONTENT_LEVEL
        _save_mlflow(out, items=data / "items.parquet", level=raised, content_level=of_content)
    write_json(
        {
            "recdistill": importlib.metadata.version("recdistill"),
            "provenance": provenance,
            "items": len(item_ids),
            "width": vectors.shape[1],
            "new_item_level": raised,
            "new_items": int(np.count_nonzero(unknown_items(fold, "final", item_ids))),
            "semantic_ids": coded,
            "match_rows": len(matched),
            "match_columns": list(match_items.columns),
            "negatives": negatives,
            "sha256": _hashes(out),
        },
        out / MANIFEST,
    )


def _served(table: EmbeddingTable) -> EmbeddingTable:
    """Vectors of one more coordinate: a query is made of items' other coordinates, and has 1 there."""
    assert table.level is not None
    vectors = with_level(torch.from_numpy(table.vectors), torch.from_numpy(table.level)).numpy()
    metadata = {**table.metadata, "geometry": "dot", "level_coordinate": vectors.shape[1] - 1}
    return EmbeddingTable(table.ids, vectors, table.support, table.confidence, metadata)


def _semantic_ids(
    config: ExportConfig, items: Path, table: EmbeddingTable, *, mean: np.ndarray, out: Path, seed: int
) -> tuple[pa.Table, dict[str, Any]]:
    """Code the catalogue, write the codebooks and both tables; returns item → ID, and how it was done and how well."""
    method = config.semantic_ids.method
    before = None if config.continue_ids is None else read_codes(config.continue_ids, table.ids, method=method)
    books = fit_codebooks(config.semantic_ids, table.ids, table.vectors, mean=mean, seed=seed, start=before)
    codes = books.encode(table.vectors)
    found = quality(books, table.ids, table.vectors, codes, tags=tag_pairs(items, table.ids), seed=seed)
    if before is not None:
        found["kept"] = kept(before, codes)
    about = {"method": method, "sizes": list(books.sizes)}
    books.save(out / CODEBOOKS)
    metadata = {**table.metadata, **about, "quality": found}
    coded = to_table(table.ids, codes)
    write_table(coded, out / "semantic_ids.parquet", metadata=metadata)
    write_table(to_items_table(table.ids, codes), out / "sid_items.parquet", metadata=metadata)
    return coded, about | found


def _catalogue(items: Path, table: EmbeddingTable, path: Path) -> pd.Index:
    item_ids = pd.Index(read_table(items, columns=[names.ITEM_ID])[names.ITEM_ID].to_pandas())
    missing = item_ids[table.ids.get_indexer(item_ids) < 0]
    if len(missing):
        raise UserError(
            f"{path}: {len(missing)} of the catalogue's {len(item_ids)} items have no vector, "
            f"e.g. {missing[:3].tolist()}",
            remedy="run distill again: the catalogue has changed since",
        )
    return item_ids


def _match(config: ExportConfig, history: Log, window: Log, items: MatchItems) -> pa.Table:
    if len(window) > config.max_match_rows:
        newest = np.argsort(-window.time, kind="stable")[: config.max_match_rows]
        window = window.take(np.sort(newest))
    values = match_log(
        items,
        history,
        user=history.user_ids.get_indexer(window.user_ids)[window.user],
        item=items.ids.get_indexer(window.item_ids)[window.item],
        time=window.time,
    )
    columns: dict[str, Any] = {
        names.USER_ID: pa.array(window.user_ids[window.user]),
        names.ITEM_ID: pa.array(window.item_ids[window.item]),
        names.TIMESTAMP: pa.array(window.time, pa.timestamp("us", "UTC")),
    }
    columns |= {name: pa.array(values[:, at], pa.float32()) for at, name in enumerate(items.columns)}
    return pa.table(columns)


def _copy_folder(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: no such folder", remedy="run the distill stage first")
    with _staged(target) as staged:
        shutil.copytree(source, staged)


def _content_level(path: Path) -> ContentLevel:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, by which new items get the level that the student's table gives the others",
            remedy="run the distill stage again",
        )
    return ContentLevel.load(path)


def _save_mlflow(out: Path, *, items: Path, level: float, content_level: Path | None) -> None:
    # mlflow takes seconds to import; commands that export nothing must not pay for it.
    from recdistill.export.mlflow_save import save_model

    with _staged(out / "mlflow_model") as staged:
        save_model(
            staged,
            student=out / "student",
            codebooks=out / CODEBOOKS,
            items=items,
            level=level,
            content_level=content_level,
        )


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Yield a folder's path to create; move it to ``target`` once it is whole."""
    staged = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)  # of a run that was killed
    yield staged
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)


def _hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    found = {}
    for path in files:
        if not any(part.startswith((".", "_")) for part in path.relative_to(out).parts):
            with path.open("rb") as stream:
                found[path.relative_to(out).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
