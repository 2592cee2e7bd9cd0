"""Fixtures of content-aware training's tests."""

from __future__ import annotations

import pytest
from planted_pairs import Planted


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))
