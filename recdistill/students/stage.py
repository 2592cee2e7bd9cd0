"""The ``encode`` stage: items and media → features of every modality, the featurizer, and untrained content vectors.

The featurizer is fitted on the whole catalogue's content, new items included: it reads no behaviour and no labels.

Memory: the items table, about 200 bytes an item and modality for keys, 24 bytes a unit of the cache, W² doubles for a
projection, ``fit_items`` items as Python objects, and one block (8,192 items) of tower vectors and features: about
4 · 8,192 · Σ (F · T · W) bytes. The catalogue's features are never in memory as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recdistill.contracts import names
from recdistill.contracts.tables import read_table, write_json, write_table
from recdistill.errors import UserError
from recdistill.students.assemble import Units, assemble, mean_clips
from recdistill.students.cache import FeatureCache, default_cache
from recdistill.students.collect import MEDIA_COLUMNS, Effort, blocks, fill_media, fill_texts
from recdistill.students.config import EncodersConfig
from recdistill.students.content import Catalogue
from recdistill.students.encoders.media import MediaLimits, spread
from recdistill.students.encoders.towers import Towers, resolved
from recdistill.students.featurizer.featurizer import Featurizer, raw_content
from recdistill.students.featurizer.fit import fit_featurizer, flat
from recdistill.students.vectors import VectorWriter, vector_table

FEATURES, FEATURIZER = "features", "featurizer"
RAW_CONTENT, RAW_CONTENT_TOWERS = "raw_content.parquet", "raw_content_towers.parquet"
BAD_MEDIA, SUMMARY = "bad_media.parquet", "encode.json"


def encode(config: EncodersConfig, *, data: Path, out: Path) -> None:
    """Encode a catalogue's content with frozen towers, each text, picture and sound once in its life (cached).

    Writes ``features/<modality>.parquet`` (item_features), ``featurizer/``, ``raw_content.parquet`` (item_embeddings:
    centred modalities side by side, untrained), ``raw_content_towers.parquet`` (the same of the towers' vectors alone),
    ``bad_media.parquet`` (media_id, item_id, reason) and ``encode.json``. Labels are never read. Killed, it goes on
    from what the cache holds.

    Args:
        data: folder with ``items.parquet`` and ``media.parquet``.

    Raises:
        UserError: a tower is not to be had, or no item has anything that could be encoded.
    """
    started = time.perf_counter()
    config = resolved(config)
    items = data / "items.parquet"
    catalogue = Catalogue(read_table(items, columns=Catalogue.columns(pq.read_schema(items).names)))
    content = _fill(config, catalogue, data / "media.parquet")
    identities = {modality: keys.identity for modality, keys in content.keys.items()}
    towers = {modality: keys.vectors for modality, keys in content.keys.items()}
    places = content.keys["text"].places if "text" in content.keys else lambda: iter(())
    featurizer = fit_featurizer(config, catalogue, towers, identities, places)
    if not featurizer.widths:
        raise UserError(
            f"{items}: no item has content that can be encoded",
            remedy="check the encoders section against the items table's columns",
        )
    featurizer.save(out / FEATURIZER)
    write_table(content.bad_media, out / BAD_MEDIA)
    counts = _write(featurizer, catalogue, content, out)
    modalities = {m: {**counts[m], **(content.efforts[m].record() if m in content.efforts else {})} for m in counts}
    write_json(
        {
            "items": len(catalogue),
            "seconds": round(time.perf_counter() - started, 3),
            "modalities": modalities,
            "bad_media": len(content.bad_media),
            "identities": identities,
        },
        out / SUMMARY,
    )


@dataclass(frozen=True)
class _Keys:
    """Where a modality's vectors are: the cache, and each item's units in it."""

    identity: str
    cache: FeatureCache
    of_item: list[list[bytes]]
    mean: bool = False
    place_of: list[list[int]] | None = None

    def units(self, rows: np.ndarray) -> Units:
        """The units of some items, which are numbered from 0."""
        keys = [self.of_item[row] for row in rows.tolist()]
        owner = np.repeat(np.arange(len(rows)), [len(mine) for mine in keys])
        tokens, width = self.cache.shape
        flat_keys = [key for mine in keys for key in mine]
        vectors = self.cache.read(flat_keys) if flat_keys else np.zeros((0, tokens, width), np.float32)
        units = Units(vectors, owner, self._place(rows))
        return mean_clips(units) if self.mean else units

    def vectors(self) -> Iterator[np.ndarray]:
        """All of the catalogue's tower vectors, [n, W] a block."""
        found = (self.units(rows).vectors for rows in blocks(len(self.of_item)))
        return flat(block for block in found if len(block))

    def places(self) -> Iterator[np.ndarray]:
        """The units' places, block by block as :meth:`vectors`."""
        found = (self._place(rows) for rows in blocks(len(self.of_item)))
        return (place for place in found if place is not None and len(place))

    def _place(self, rows: np.ndarray) -> np.ndarray | None:
        if self.place_of is None:
            return None
        return np.array([at for row in rows.tolist() for at in self.place_of[row]], dtype=np.int64)


@dataclass(frozen=True)
class _Content:
    keys: dict[str, _Keys]
    efforts: dict[str, Effort]
    bad_media: pd.DataFrame


def _fill(config: EncodersConfig, catalogue: Catalogue, media: Path) -> _Content:
    towers, root = Towers(config), config.cache or default_cache()
    keys: dict[str, _Keys] = {}
    efforts: dict[str, Effort] = {}
    if config.text is not None and catalogue.fields.text:
        cache = FeatureCache(root, towers.text.identity)
        fields = catalogue.fields.text if config.text.tokens == "fields" else ()
        texts, place_of, efforts["text"] = fill_texts(catalogue, towers.text, cache, places=fields)
        if any(texts):
            keys["text"] = _Keys(towers.text.identity, cache, texts, place_of=place_of)
    most = {"image": config.image.frames if config.image else 0, "audio": config.audio.clips if config.audio else 0}
    lists = {
        kind: [spread(ids, most[kind]) for ids in catalogue.media_ids(column)]
        for kind, column in MEDIA_COLUMNS.items()
        if most[kind]
    }
    lists = {kind: of_items for kind, of_items in lists.items() if any(of_items)}
    wanted = {medium: kind for kind, of_items in lists.items() for ids in of_items for medium in ids}
    asked = {kind: partial(getattr, towers, kind) for kind in lists}
    caches = {kind: FeatureCache(root, asked[kind]().identity) for kind in lists}
    limits = MediaLimits(max_bytes=int(config.max_media_mb * 1e6))
    found = fill_media(media, wanted, asked, caches, limits) if wanted else None
    bad: list[tuple[str, Any, str]] = []
    if found is not None:
        efforts |= found.efforts
        for kind, of_items in lists.items():
            mine = [[found.keys[medium] for medium in ids if medium in found.keys] for ids in of_items]
            if any(mine):
                keys[kind] = _Keys(asked[kind]().identity, caches[kind], mine, mean=kind == "audio")
            bad += [
                (medium, item, found.faults[medium])
                for item, ids in zip(catalogue.ids, of_items, strict=True)
                for medium in ids
                if medium in found.faults
            ]
    return _Content(keys, efforts, _bad_table(bad, catalogue.ids))


def _bad_table(bad: list[tuple[str, Any, str]], ids: pd.Index) -> Any:
    columns = list(zip(*bad, strict=True)) if bad else [(), (), ()]
    return pa.table(
        {
            names.MEDIA_ID: pa.array(columns[0], pa.string()),
            names.ITEM_ID: pa.array(columns[1], pa.array(ids[:1]).type),
            "reason": pa.array(columns[2], pa.string()),
        }
    )


@torch.inference_mode()
def _write(featurizer: Featurizer, catalogue: Catalogue, content: _Content, out: Path) -> dict[str, dict[str, int]]:
    """All tables in one pass over the catalogue; returns rows, tokens and width by modality."""
    widths = featurizer.widths
    frames = max((len(mine) for mine in content.keys["image"].of_item), default=1) if "image" in content.keys else 1
    tokens = {
        m: count * (content.keys[m].cache.shape[0] if m in content.keys else 1)
        for m, count in featurizer.tokens.items()
    }
    if "image" in tokens:
        tokens["image"] *= frames
    # The towers alone: of the text the tower's part without the words'.
    tower_widths = {m: int(cast(Any, featurizer.towers[m]).width) for m in widths if m in featurizer.towers}
    with ExitStack() as stack:

        def table(path: Path, width: int, metadata: Mapping[str, Any]) -> VectorWriter:
            return stack.enter_context(vector_table(path, ids=catalogue.ids, width=width, metadata=metadata))

        of_modality = {
            m: table(out / FEATURES / f"{m}.parquet", tokens[m] * width, _provenance(featurizer, m, tokens[m], width))
            for m, width in widths.items()
        }
        whole = table(
            out / RAW_CONTENT,
            sum(widths.values()),
            {"kind": "raw_content", "geometry": "cosine", "widths": list(widths.items())},
        )
        bare = (
            table(
                out / RAW_CONTENT_TOWERS,
                sum(tower_widths.values()),
                {"kind": "raw_content_towers", "geometry": "cosine"},
            )
            if tower_widths
            else None
        )
        for rows in blocks(len(catalogue)):
            ids = catalogue.ids[rows]
            units = {m: keys.units(rows) for m, keys in content.keys.items()}
            features, present = assemble(featurizer, catalogue.block(rows), units, frames=frames)
            for modality, writer in of_modality.items():
                there = present[modality].numpy()
                writer.write(ids[there], features[modality].numpy()[there].reshape(int(there.sum()), -1))
            _write_raw(whole, ids, features, present, widths)
            if bare is not None:
                _write_raw(
                    bare, ids, {m: features[m][..., :width] for m, width in tower_widths.items()}, present, tower_widths
                )
    return {m: {"items": writer.rows, "tokens": tokens[m], "width": widths[m]} for m, writer in of_modality.items()}


def _write_raw(
    writer: VectorWriter,
    ids: pd.Index,
    features: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    widths: Mapping[str, int],
) -> None:
    any_of = torch.stack([present[m] for m in widths]).any(0).numpy()
    writer.write(ids[any_of], raw_content(features, present, widths).numpy()[any_of])


def _provenance(featurizer: Featurizer, modality: str, tokens: int, width: int) -> dict[str, Any]:
    tower = getattr(featurizer.encoders, modality)
    name = tower.name if hasattr(tower, "name") else "tf-idf-svd"
    return {
        "modality": modality,
        "encoder": name,
        "identity": featurizer.spec["identities"].get(modality, ""),
        "tokens": tokens,
        "width": width,
    }
