"""Fixtures of the distillation's tests."""

from __future__ import annotations

import pytest
from topical_world import TopicalWorld


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> TopicalWorld:
    return TopicalWorld.plant(tmp_path_factory.mktemp("topical"))


@pytest.fixture(scope="session")
def world_with_new(tmp_path_factory: pytest.TempPathFactory) -> TopicalWorld:
    """With twenty items that no training knows of the selection fit."""
    return TopicalWorld.plant(tmp_path_factory.mktemp("new"), new=20)


@pytest.fixture(scope="session")
def titled_world(tmp_path_factory: pytest.TempPathFactory) -> TopicalWorld:
    """With twenty new items, titles that tell the topic, and tags of noise."""
    return TopicalWorld.plant(tmp_path_factory.mktemp("titled"), new=20, titled=True)
