"""Where a tower's files are, and a digest of them that names the tower in the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from recdistill.errors import UserError
from recdistill.students.config import PACKAGED

# Weights as safetensors only: a pickle is never read from a folder.
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_OFFLINE = "pip install 'recdistill[offline]', or name a Hugging Face model or folder in the recipe's encoders section"


def find_model(name: str) -> Path:
    """Folder of a Hugging Face model: a local folder as it is, else the hub's snapshot (its cache, when offline).

    Raises:
        UserError: there is no such folder, or the hub does not have or give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any(folder.glob("*.safetensors")):
            raise UserError(
                f"{folder}: no *.safetensors weights",
                remedy="save the model with save_pretrained; pickled weights are not read",
            )
        return folder.resolve()
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"{name}: no such folder", remedy="give a model's folder, a hub name, or a packaged tower")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # the hub's client raises its own, requests' and OS errors
        raise UserError(
            f"the model '{name}' could not be fetched: {type(error).__name__}: {error}",
            remedy=f"check name and network; or {_OFFLINE}",
        ) from error


def copy_settings(folder: Path, to: Path) -> None:
    """Copy a model folder's settings and its tokenizer or processor, without the weights."""
    if to.exists() and to.samefile(folder):
        return
    to.mkdir(parents=True, exist_ok=True)
    for path in {path for pattern in _FILES for path in folder.glob(pattern)}:
        if ".safetensors" not in path.suffixes:
            shutil.copyfile(path, to / path.name)


def package_folder(module: str) -> Path:
    """Folder of an installed package.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise UserError(f"the packaged encoder '{module}' is not installed", remedy=_OFFLINE)
    return Path(found.origin).parent


def unknown_packaged(name: str, known: str) -> UserError:
    """The error of a ``packaged:`` name that does not exist."""
    return UserError(
        f"'{name}': no such packaged encoder", remedy=f"use {PACKAGED}{known}, or a Hugging Face name or folder"
    )


@contextmanager
def loading(folder: Path, what: str) -> Iterator[None]:
    """Load a model of the folder without transformers' progress bars.

    Raises:
        UserError: the block failed to, since the folder holds something else.
    """
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"{folder}: not {what}: {reason}", remedy="name a model of that kind in the recipe") from error
    finally:
        if bars:
            logging.enable_progress_bar()


def folder_digest(folder: Path) -> str:
    """Digest of a model folder's weights, settings and vocabulary; its place and name do not count."""
    files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    return combine({path.name: file_digest(path) for path in files})


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered as long as its size and time stay."""
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


def combine(parts: Mapping[str, str | int | float]) -> str:
    """Digest of named parts, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def tower_identity(parts: Mapping[str, str | int | float], *, trained: bool) -> str:
    """A tower's name in the cache.

    Raises:
        ValueError: it has been trained, so that its files do not say what it gives.
    """
    if trained:
        raise ValueError("a tower that is trained has no name in the cache")
    return combine(parts)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
