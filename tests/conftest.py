"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Folder of a real data set, beside the checkout or in RECDISTILL_SHARED_DATA; skips where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("RECDISTILL_SHARED_DATA", _BESIDE)) / name
        if not folder.is_dir():
            pytest.skip(f"real data '{name}' is not here: set RECDISTILL_SHARED_DATA to the folder that holds it")
        return folder

    return find
