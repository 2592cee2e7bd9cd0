"""Fixtures of the students' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_world import World, tiny_bert, tiny_clap, tiny_clip_vision, tiny_qwen, tiny_siglip

from recdistill.students import EncodersConfig


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the tiny text and vision towers."""
    folder = tmp_path_factory.mktemp("towers")
    return {"text": tiny_bert(folder / "bert"), "image": tiny_clip_vision(folder / "clip")}


@pytest.fixture(scope="session")
def make_config(towers: dict[str, Path]) -> Callable[..., EncodersConfig]:
    """Settings with the tiny towers; a section given replaces its default's keys."""

    def make(cache: Path, **sections: Any) -> EncodersConfig:
        text = {"name": str(towers["text"]), "lexical": 8}
        image = {"name": str(towers["image"]), "width": 6, "frames": 2}
        defaults: dict[str, Any] = {
            "text": text,
            "image": image,
            "audio": {"width": 5},
            "structured": {"width": 4, "direct_values": 4, "number_bins": 3},
            "buckets_log2": 10,
        }
        return EncodersConfig.model_validate({**defaults, **sections, "cache": cache})

    return make


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., EncodersConfig]) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, make_config(folder / "cache"))


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the towers: CLAP's audio half, SigLIP's vision half, Qwen3."""
    folder = tmp_path_factory.mktemp("towers")
    return {
        "audio": tiny_clap(folder / "clap"),
        "image": tiny_siglip(folder / "siglip"),
        "text": tiny_qwen(folder / "qwen"),
    }


@pytest.fixture(scope="session")
def catalogue(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., EncodersConfig], homes: dict[str, Path]
) -> World:
    """A catalogue encoded by those."""
    folder = tmp_path_factory.mktemp("catalogue")
    config = make_config(
        folder / "cache",
        text={"name": str(homes["text"]), "lexical": 8},
        image={"name": str(homes["image"]), "width": 6, "frames": 2},
        audio={"name": str(homes["audio"]), "width": None},
    )
    return World(folder, config)
