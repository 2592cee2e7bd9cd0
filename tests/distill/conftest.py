"""Fixtures of the distillation's tests."""

from __future__ import annotations

import pytest
from topical_world import TopicalWorld


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> TopicalWorld:
    return TopicalWorld.plant(tmp_path_factory.mktemp("topical"))
