"""The on-disk feature cache: what a tower once said of a text, picture or sound is never asked again.

One folder a tower, in it parts that are written once and never changed: a safetensors file with ``keys`` [n, 16] bytes
(hash of the content) and ``vectors`` [n, T, W] float32. A part appears by rename, so a killed writer leaves nothing
half-written; each writer names its own parts, so several may write at once and at worst say the same thing twice.

Memory: 24 bytes a cached unit for the index; vectors are memory-mapped and gathered by row.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from recdistill.contracts.tables import atomic

_KEY = "S16"
_MAX_HEADER = 1 << 20


def default_cache() -> Path:
    """RECDISTILL_CACHE, else ~/.cache/recdistill."""
    return Path(os.environ.get("RECDISTILL_CACHE") or "~/.cache/recdistill").expanduser()


def text_key(text: str) -> bytes:
    """16 bytes that name a text."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


class FeatureCache:
    """Vectors of one tower by content key.

    Args:
        root: the cache folder, shared by all towers.
        tower: the tower's identity.
    """

    def __init__(self, root: Path, tower: str) -> None:
        self._folder = root / tower
        self._parts: list[np.ndarray] = []  # memory maps [n, T, W]
        self._keys = np.zeros(0, dtype=_KEY)  # ascending
        self._places = np.zeros((0, 2), dtype=np.int32)  # part and row of each key
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []  # keys and places of parts not in the index yet
        self.ignored: list[Path] = []
        for path in sorted(self._folder.glob("part-*.safetensors")):
            self._open(path)

    @property
    def shape(self) -> tuple[int, int]:
        """(T, W).

        Raises:
            LookupError: nothing is cached yet.
        """
        if not self._parts:
            raise LookupError(f"{self._folder}: nothing is cached")
        _, tokens, width = self._parts[0].shape
        return tokens, width

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the keys that are not cached; of equal keys the first only."""
        wanted = np.array(keys, dtype=_KEY)
        _, first = np.unique(wanted, return_index=True)
        absent = self._find(wanted[first]) < 0
        return sorted(first[absent].tolist())

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep [n, T, W] vectors as a new part."""
        if not len(keys):
            return
        path = self._folder / f"part-{uuid.uuid4().hex}.safetensors"
        raw = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)
        with atomic(path) as temporary:
            save_file({"keys": raw.copy(), "vectors": np.ascontiguousarray(vectors, dtype=np.float32)}, temporary)
        self._open(path)

    def read(self, keys: Sequence[bytes]) -> np.ndarray:
        """[n, T, W] float32 in the order of the keys.

        Raises:
            KeyError: one of them is not cached.
        """
        at = self._find(np.array(keys, dtype=_KEY))
        if (at < 0).any():
            raise KeyError(f"{int((at < 0).sum())} keys are not in {self._folder}")
        places = self._places[at]
        tokens, width = self.shape
        vectors = np.empty((len(keys), tokens, width), dtype=np.float32)
        for part in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == part)
            vectors[here] = self._parts[part][places[here, 1]]
        return vectors

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """Position of each key in the index, -1 where absent."""
        if self._fresh:
            self._keys, first = np.unique(
                np.concatenate([self._keys, *(keys for keys, _ in self._fresh)]), return_index=True
            )
            self._places = np.concatenate([self._places, *(places for _, places in self._fresh)])[first]
            self._fresh.clear()
        if not len(self._keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, at, -1)

    def _open(self, path: Path) -> None:
        try:
            keys, vectors = _map_part(path)
            if self._parts and vectors.shape[1:] != self._parts[0].shape[1:]:
                raise ValueError(f"shape {vectors.shape[1:]} instead of {self._parts[0].shape[1:]}")
        except (OSError, ValueError, KeyError):
            self.ignored.append(path)  # cut off by a full disk or a lost machine: encoded anew
            return
        places = np.stack([np.full(len(keys), len(self._parts)), np.arange(len(keys))], axis=1).astype(np.int32)
        self._fresh.append((keys, places))
        self._parts.append(vectors)


def _map_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and memory-mapped vectors of a part, by the safetensors layout: length, JSON header, data."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _MAX_HEADER:
            raise ValueError("no safetensors header")
        header = json.loads(file.read(length))
    arrays = {}
    for name, kind in (("keys", np.dtype(np.uint8)), ("vectors", np.dtype(np.float32))):
        shape, (start, stop) = tuple(header[name]["shape"]), header[name]["data_offsets"]
        if stop - start != int(np.prod(shape)) * kind.itemsize:
            raise ValueError("header and data disagree")
        arrays[name] = np.memmap(path, dtype=kind, mode="r", offset=8 + length + start, shape=shape)
    keys = np.ascontiguousarray(arrays["keys"]).view(_KEY).reshape(-1)
    if len(keys) != len(arrays["vectors"]) or arrays["vectors"].ndim != 3:
        raise ValueError("keys and vectors disagree")
    return keys, arrays["vectors"]
