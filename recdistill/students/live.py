"""Features of a catalogue some of whose towers are trained: those modalities are given raw, batch by batch.

Shapes: I items, B items of a batch, p pieces.
Memory: the frozen modalities' features (see ``store``), 4 bytes a token of the tuned texts, 100 bytes a medium, and the
inputs of a batch and of one that is being prepared: of a picture of s pixels a side 12 · s² bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recdistill.students.encoders.media import BadMediaError
from recdistill.students.encoders.network import pieces_of
from recdistill.students.encoders.text import TextInput
from recdistill.students.encoders.tower import MediaInput, join
from recdistill.students.media_files import MediaFiles
from recdistill.students.raw import RawUnits
from recdistill.students.store import FeatureStore


class LiveModality(Protocol):
    """One modality's raw inputs by item row."""

    def prefetch(self, rows: Sequence[int]) -> None:
        """Begin to prepare a batch that will be asked for."""

    def batch(self, rows: Sequence[int]) -> tuple[RawUnits, Tensor]:
        """Its inputs, and [B] bool: which items have any."""
        ...

    def followed_by(self, count: int) -> LiveModality:
        """The same, and behind it so many items that have none."""
        ...


@dataclass(frozen=True)
class LiveFeatures:
    """What a student with tuned towers reads; a :class:`recdistill.students.source.FeatureSource`.

    Attributes:
        frozen: features of the other modalities.
        live: tuned modalities.
    """

    frozen: FeatureStore
    live: Mapping[str, LiveModality]

    @property
    def item_ids(self) -> pd.Index:
        """[I]."""
        return self.frozen.item_ids

    def __len__(self) -> int:
        return len(self.frozen)

    def prefetch(self, rows: Tensor | slice) -> None:
        """Begin to prepare a batch in other threads; :meth:`batch` of the same rows then waits for it."""
        chosen = _chosen(rows, len(self))
        for part in self.live.values():
            part.prefetch(chosen)

    def batch(self, rows: Tensor | slice) -> tuple[dict[str, Tensor | RawUnits], dict[str, Tensor]]:
        """Features [B, T, W] of frozen modalities, raw units of tuned ones, and masks [B] of all."""
        frozen, present = self.frozen.batch(rows)
        features: dict[str, Tensor | RawUnits] = dict(frozen)
        chosen = _chosen(rows, len(self))
        for modality, part in self.live.items():
            features[modality], present[modality] = part.batch(chosen)
        return features, present


class LiveTexts:
    """Texts, tokenised once.

    Args:
        tokens: token ids of u texts, one text after the other.
        lengths: [u] how many of them each text has.
        owner: [u] the item row of each text, ascending.
        place: [u] which of the item's ``places`` it fills.
        prepare: makes a batch of them.
        beside: [I, places, w] what stands behind the tower's features, if anything.
        free: [I] bool, whose texts are of no field; None: none's.
    """

    def __init__(
        self,
        *,
        tokens: np.ndarray,
        lengths: np.ndarray,
        owner: np.ndarray,
        place: np.ndarray,
        places: int,
        items: int,
        prepare: TextInput,
        beside: Tensor | None,
        free: Tensor | None = None,
    ) -> None:
        self._tokens, self._lengths, self._owner, self._place = tokens, lengths, owner, place
        self._ends = np.concatenate([[0], np.cumsum(lengths)])
        self._first = np.searchsorted(owner, np.arange(items + 1))
        self._places, self._items, self._prepare, self._beside, self._free = places, items, prepare, beside, free

    def prefetch(self, rows: Sequence[int]) -> None:
        """Nothing: they are ready."""

    def batch(self, rows: Sequence[int]) -> tuple[RawUnits, Tensor]:
        """See :class:`LiveModality`."""
        of_items = np.array(rows, dtype=np.int64)
        counts = self._first[of_items + 1] - self._first[of_items]
        owner = np.repeat(np.arange(len(rows)), counts)
        units = [unit for row in rows for unit in range(self._first[row], self._first[row + 1])]
        ids = [self._tokens[self._ends[unit] : self._ends[unit + 1]].tolist() for unit in units]
        raw = RawUnits(
            self._prepare.padded(ids) if ids else {},
            torch.from_numpy(owner),
            torch.from_numpy(self._place[np.array(units, dtype=np.int64)]),
            torch.ones(len(units)),
            len(rows),
            self._places,
            None if self._beside is None else self._beside[torch.from_numpy(of_items)],
            None if self._free is None else self._free[torch.from_numpy(of_items)],
        )
        return raw, torch.from_numpy(counts > 0)

    def followed_by(self, count: int) -> LiveTexts:
        """See :class:`LiveModality`."""
        return self._extended(np.zeros(0, np.int32), np.zeros(0, np.int64), count, None)

    def with_texts(self, texts: Sequence[str], *, beside: Tensor) -> LiveTexts:
        """The same, and behind it items of one free text each, with [X, 1, w] beside it."""
        ids = self._prepare.ids(texts)
        tokens = np.fromiter((token for text in ids for token in text), dtype=np.int32)
        return self._extended(tokens, np.array([len(text) for text in ids], np.int64), len(texts), beside)

    def _extended(self, tokens: np.ndarray, lengths: np.ndarray, count: int, beside: Tensor | None) -> LiveTexts:
        more = None if self._beside is None else torch.zeros(count, *self._beside.shape[1:])
        if more is not None and beside is not None:
            more[:, :1] = beside
        free = torch.zeros(self._items, dtype=torch.bool) if self._free is None else self._free
        return LiveTexts(
            tokens=np.concatenate([self._tokens, tokens]),
            lengths=np.concatenate([self._lengths, lengths]),
            owner=np.concatenate([self._owner, self._items + np.arange(len(lengths))]),
            place=np.concatenate([self._place, np.zeros(len(lengths), np.int64)]),
            places=self._places,
            items=self._items + count,
            prepare=self._prepare,
            beside=None if more is None or self._beside is None else torch.cat([self._beside, more]),
            free=torch.cat([free, torch.ones(count, dtype=torch.bool)]),
        )


class LiveMedia:
    """Pictures or sounds, decoded when a batch needs them, in several threads.

    Args:
        media: per item row the ids of its media.
        average: an item's media are one place, their mean (clips); else a place each (frames).

    Attributes:
        faults: media id → why it counted as missing.
    """

    def __init__(
        self, media: Sequence[Sequence[str]], *, files: MediaFiles, prepare: MediaInput, average: bool, threads: int
    ) -> None:
        self._media, self._files, self._prepare, self._average = media, files, prepare, average
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="recdistill-media")
        self._ahead: tuple[list[int], dict[str, Future[dict[str, Tensor]]]] | None = None
        self.faults: dict[str, str] = {}

    def prefetch(self, rows: Sequence[int]) -> None:
        """See :class:`LiveModality`; of one batch at a time, a later call counts."""
        self._ahead = (list(rows), self._begin(rows))

    def batch(self, rows: Sequence[int]) -> tuple[RawUnits, Tensor]:
        """See :class:`LiveModality`."""
        ahead, self._ahead = self._ahead, None
        begun = ahead[1] if ahead is not None and ahead[0] == list(rows) else self._begin(rows)
        units: list[dict[str, Tensor]] = []
        owner, place, weight = [], [], []
        for row, item in enumerate(rows):
            mine = [unit for medium in self._media[item] if (unit := self._result(medium, begun[medium])) is not None]
            for at, unit in enumerate(mine):
                count = pieces_of(unit)
                units.append(unit)
                owner += [row] * count
                place += [0 if self._average else at] * count
                weight += [1 / (count * (len(mine) if self._average else 1))] * count
        raw = RawUnits(
            join(units) if units else {},
            torch.tensor(owner, dtype=torch.long),
            torch.tensor(place, dtype=torch.long),
            torch.tensor(weight, dtype=torch.float32),
            len(rows),
            max(place, default=0) + 1,
        )
        present = torch.zeros(len(rows), dtype=torch.bool)
        present[raw.owner] = True
        return raw, present

    def followed_by(self, count: int) -> LiveMedia:
        """See :class:`LiveModality`."""
        media = [*self._media, *([] for _ in range(count))]
        return LiveMedia(media, files=self._files, prepare=self._prepare, average=self._average, threads=self._threads)

    def _begin(self, rows: Sequence[int]) -> dict[str, Future[dict[str, Tensor]]]:
        wanted = dict.fromkeys(medium for row in rows for medium in self._media[row])
        return {medium: self._pool.submit(self._decode, medium) for medium in wanted}

    def _decode(self, medium: str) -> dict[str, Tensor]:
        return self._prepare(self._files.open(medium))

    def _result(self, medium: str, begun: Future[dict[str, Tensor]]) -> dict[str, Tensor] | None:
        try:
            return begun.result()
        except BadMediaError as error:
            if medium not in self.faults:
                self.faults[medium] = str(error)
                warnings.warn(f"{medium}: counted as missing: {error}", stacklevel=2)
            return None


def _chosen(rows: Tensor | slice, items: int) -> list[int]:
    chosen: list[int] = torch.arange(items)[rows].tolist()
    return chosen
