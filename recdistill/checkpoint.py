"""Checkpoints that a kill cannot tear, written by any number of processes and read by any other number.

A checkpoint is a folder: ``latest.json`` holds everything that is no tensor and names one of two sub-folders, "a"
or "b", in which torch.distributed.checkpoint keeps the tensors as safetensors, each process its own part. A save
fills the sub-folder that is not in use, then replaces ``latest.json`` (atomically), then deletes the other one.
Nothing in it is a pickle: neither DCP's own format nor its metadata file is used.

Memory: saving copies no tensor of ``_SMALL`` bytes or more; loading copies one tensor's local part at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from recdistill.contracts.tables import atomic
from recdistill.world import World

_LATEST = "latest.json"
_PLACES = ("a", "b")
_SMALL = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        about: what :func:`save` was told about it.
    """

    about: dict[str, Any]
    _folder: Path
    _state: Any
    _world: World

    def load(self, live: Any) -> Any:
        """The saved state; collective.

        Args:
            live: a state of the same nesting. Where it has a tensor of the saved shape and type, plain or
                sharded, the values are read straight into it, and it is part of what is returned; a tensor that
                ``live`` lacks (an optimizer's, before its first step) is made anew, whole on every rank.
        """
        reader = HuggingFaceStorageReader(str(self._folder))
        tensors: dict[str, Tensor] = {}
        known = reader.read_metadata().state_dict_metadata
        state = _decode(self._state, live, known, tensors)
        if tensors:
            with _plainly():
                state_dict_loader.load(tensors, storage_reader=reader, no_dist=self._world.size == 1)
        return state


def save(folder: Path, state: Any, *, about: dict[str, Any], world: World = World()) -> None:
    """Write a checkpoint, whose predecessor stays whole until this one is; collective.

    Args:
        folder: the checkpoint's own, which every process can write; made if missing.
        state: dicts, lists and tuples of tensors (plain: the same on every rank; or ShardedTensors) and of plain
            values. Keys of dicts are strings or whole numbers.
        about: plain values to know before loading.

    Raises:
        TypeError: the state holds something else.
        ValueError: two tensors have the same path of keys.
    """
    tensors: dict[str, Tensor] = {}
    encoded = _encode(state, "state", tensors)
    place = None
    if world.leads:
        used = _read(folder)
        place = _PLACES[used is not None and used["place"] == _PLACES[0]]
        shutil.rmtree(folder / place, ignore_errors=True)
        (folder / place).mkdir(parents=True)
    place = world.agree(place)
    if tensors:
        with _plainly():
            state_dict_saver.save(tensors, storage_writer=_Writer(str(folder / place)), no_dist=world.size == 1)
    if world.leads:
        files = {path.name: path.stat().st_size for path in (folder / place).iterdir()}
        with atomic(folder / _LATEST) as temporary:  # NaN included, which write_json refuses
            temporary.write_text(json.dumps({"place": place, "files": files, "about": about, "state": encoded}))
        shutil.rmtree(folder / _PLACES[place == _PLACES[0]], ignore_errors=True)


def find(folder: Path, *, world: World = World()) -> Checkpoint | None:
    """The last whole checkpoint in a folder, None if there is none; collective."""
    found = world.agree(_read(folder) if world.leads else None)
    return found and Checkpoint(found["about"], folder / found["place"], found["state"], world)


def remove(folder: Path, *, world: World = World()) -> None:
    """Delete a checkpoint, if there is one; collective."""
    if world.leads:
        (folder / _LATEST).unlink(missing_ok=True)  # first: what is left of a folder half deleted is no checkpoint
        shutil.rmtree(folder, ignore_errors=True)
    world.barrier()


def _read(folder: Path) -> dict[str, Any] | None:
    """What ``latest.json`` says, if it can be read and every file that it names is there in full length."""
    try:
        found: dict[str, Any] = json.loads((folder / _LATEST).read_text())
        sizes = {name: (folder / found["place"] / name).stat().st_size for name in found["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if sizes == found["files"] else None


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON that tells dicts from lists from tuples from tensors; the tensors go into ``tensors``."""
    if isinstance(value, Tensor):
        if path in tensors:
            raise ValueError(f"two tensors of the state have the same path of keys, {path}")
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {"dict": [[_key(key), _encode(part, f"{path}/{key}", tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(part, f"{path}/{place}", tensors) for place, part in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__} ({path})")


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise TypeError(f"keys of a checkpoint's dicts are strings or whole numbers, not {type(key).__name__}")
    kept: str | int = key
    return kept


def _decode(saved: Any, live: Any, known: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
    if not isinstance(saved, dict):
        return saved
    (kind, value), *_ = saved.items()
    if kind == "tensor":
        size, dtype = known[value].size, known[value].properties.dtype
        fits = isinstance(live, Tensor) and live.size() == size and live.dtype == dtype
        tensors[value] = live.detach() if fits else torch.empty(size, dtype=dtype)
        return tensors[value]
    if kind == "dict":
        named = live if isinstance(live, Mapping) else {}
        return {key: _decode(part, named.get(key), known, tensors) for key, part in value}
    row = [*(live if isinstance(live, list | tuple) else ()), *[None] * len(value)]
    decoded = [_decode(part, row[place], known, tensors) for place, part in enumerate(value)]
    return decoded if kind == "list" else tuple(decoded)


class _Writer(HuggingFaceStorageWriter):
    """Writes large tensors from where they are, each into a file of its own.

    The parent writes a process's tensors as one file, of which it first makes one string of bytes: twice the
    memory of the tables.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, save_distributed=True)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        parts = [(item, cast(Tensor, planner.resolve_data(item)).detach().contiguous()) for item in plan.items]
        # Of the small ones, some may be views of the same memory, which safetensors refuses.
        files = [[(item, part.clone()) for item, part in parts if part.nbytes < _SMALL]]
        files += [[(item, part)] for item, part in parts if part.nbytes >= _SMALL]
        shard = plan.storage_data["shard_index"]
        for number, written in enumerate(files):
            if written:
                self._write(Path(self.path) / f"{shard:05d}-{number:05d}.safetensors", written)
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(item.index, part.nbytes, None) for item, part in parts])
        return done

    @staticmethod
    def _write(path: Path, parts: list[tuple[WriteItem, Tensor]]) -> None:
        offsets = {item.index.fqn: {SAVED_OFFSETS_KEY: list(item.index.offset or ())} for item, _ in parts}
        save_file({item.index.fqn: part for item, part in parts}, path, {CUSTOM_METADATA_KEY: json.dumps(offsets)})
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _plainly() -> Iterator[None]:
    """Without DCP's warning that a process alone is alone, and with what goes wrong (Ctrl-C, too) as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is")
        try:
            yield
        except CheckpointException as error:
            cause, _ = next(iter(error.failures.values()))
            raise cause from error
