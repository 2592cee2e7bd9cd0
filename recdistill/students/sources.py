"""Where a student's features come from: all of them from the cache, or of tuned towers raw, batch by batch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.students.collect import MEDIA_COLUMNS, MediaKind, blocks
from recdistill.students.config import StudentConfig
from recdistill.students.content import Catalogue
from recdistill.students.encoders.media import spread
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.live import LiveFeatures, LiveMedia, LiveModality, LiveTexts
from recdistill.students.media_files import MediaFiles
from recdistill.students.source import FeatureSource
from recdistill.students.stage import BAD_MEDIA
from recdistill.students.store import FeatureStore
from recdistill.students.text import text_units
from recdistill.students.tuning import tuned_towers


def feature_source(config: StudentConfig, *, content: Path, data: Path, item_ids: pd.Index) -> FeatureSource:
    """What a student of these settings reads, in the order of ``item_ids``.

    Args:
        content: folder of the ``encode`` stage, whose list of bad media is heeded.
        data: folder with ``items.parquet`` and ``media.parquet``; read for tuned towers only.

    Raises:
        UserError: the stage has not run, or a tower cannot be tuned.
    """
    featurizer = Featurizer.load(content / "featurizer")
    read = config.reads(featurizer.widths)
    tuned = tuned_towers(config, featurizer, read=read)
    frozen = FeatureStore.load(content, item_ids, modalities=[m for m in read if m not in tuned])
    if not tuned:
        return frozen
    catalogue = Catalogue(
        read_table(data / "items.parquet", columns=Catalogue.columns(pq.read_schema(data / "items.parquet").names))
    )
    raw = _Raw(featurizer, catalogue, catalogue.ids.get_indexer(item_ids), content, data)
    live: dict[str, LiveModality] = {kind: raw.media(kind) for kind in MEDIA_COLUMNS if kind in tuned}
    if "text" in tuned:
        live["text"] = raw.texts(item_ids)
    return LiveFeatures(frozen, live)


class _Raw:
    """Builds the tuned modalities' inputs from the canonical tables."""

    def __init__(
        self, featurizer: Featurizer, catalogue: Catalogue, rows: np.ndarray, content: Path, data: Path
    ) -> None:
        self._featurizer, self._catalogue, self._rows = featurizer, catalogue, rows
        self._content, self._data = content, data
        self._towers = Towers(featurizer.encoders, expected=featurizer.spec["identities"])

    def texts(self, item_ids: pd.Index) -> LiveTexts:
        prepare = self._towers.text.input
        tokens, lengths = [np.zeros(0, np.int32)], list[int]()
        owners, fields = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for some in blocks(len(self._rows)):
            known = some[self._rows[some] >= 0]
            texts, owner, place = text_units(
                self._catalogue.block(self._rows[known]).texts, self._featurizer.text_places
            )
            ids = prepare.ids(texts) if texts else []
            tokens.append(np.fromiter((token for text in ids for token in text), dtype=np.int32))
            lengths += [len(text) for text in ids]
            owners.append(known[owner])
            fields.append(place)
        beside = None
        if self._featurizer.lexical is not None:
            store = FeatureStore.load(self._content, item_ids, modalities=["text"])
            beside = store.features["text"][..., -self._featurizer.lexical.width :].clone()
        return LiveTexts(
            tokens=np.concatenate(tokens),
            lengths=np.array(lengths, dtype=np.int64),
            owner=np.concatenate(owners),
            place=np.concatenate(fields),
            places=self._featurizer.tokens["text"],
            items=len(self._rows),
            prepare=prepare,
            beside=beside,
        )

    def media(self, kind: MediaKind) -> LiveMedia:
        encoders = self._featurizer.encoders
        most = {
            "image": encoders.image.frames if encoders.image else 0,
            "audio": encoders.audio.clips if encoders.audio else 0,
        }[kind]
        bad = set(read_table(self._content / BAD_MEDIA, columns=[names.MEDIA_ID])[names.MEDIA_ID].to_pylist())
        lists = self._catalogue.media_ids(MEDIA_COLUMNS[kind])
        media = [
            [medium for medium in spread(lists[row], most) if medium not in bad] if row >= 0 else []
            for row in self._rows.tolist()
        ]
        wanted = {medium for of_item in media for medium in of_item}
        return LiveMedia(
            media,
            files=MediaFiles(self._data / "media.parquet", wanted),
            prepare=getattr(self._towers, kind).input,
            average=kind == "audio",
            threads=os.cpu_count() or 1,
        )
