"""The towers of a recipe, each made when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from recdistill.errors import UserError
from recdistill.students.config import PACKAGED, EncodersConfig, Modality
from recdistill.students.encoders.audio import audio_tower, build_audio
from recdistill.students.encoders.image import build_image, image_tower
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.text import HuggingFaceText, build_text, text_tower
from recdistill.students.encoders.tower import MediaTower


class Towers:
    """Text, image and audio towers by the settings; weights are loaded on first use.

    Args:
        expected: identities that the towers must have, by modality: those with which a student was trained.
        trained: towers that are not what their names say any more, by modality.
    """

    def __init__(
        self,
        config: EncodersConfig,
        *,
        expected: Mapping[str, str] | None = None,
        trained: Mapping[str, Trained] | None = None,
    ) -> None:
        self._config, self._expected, self._trained = config, expected or {}, trained or {}

    @cached_property
    def text(self) -> HuggingFaceText:
        """The text tower."""
        assert self._config.text is not None
        tower = text_tower(self._config.text, **self._own("text"))
        self._check("text", tower, self._config.text.name)
        return tower

    @cached_property
    def image(self) -> MediaTower:
        """The vision tower."""
        assert self._config.image is not None
        tower = image_tower(self._config.image, max_bytes=self._max_bytes, **self._own("image"))
        self._check("image", tower, self._config.image.name)
        return tower

    @cached_property
    def audio(self) -> MediaTower:
        """The audio tower."""
        assert self._config.audio is not None
        tower = audio_tower(self._config.audio, max_bytes=self._max_bytes, **self._own("audio"))
        self._check("audio", tower, self._config.audio.name)
        return tower

    @property
    def _max_bytes(self) -> int:
        return int(self._config.max_media_mb * 1e6)

    def _own(self, modality: Modality) -> dict[str, Any]:
        trained = self._trained.get(modality)
        return {} if trained is None else {"network": trained.network, "folder": trained.folder}

    def _check(self, modality: Modality, tower: HuggingFaceText | MediaTower, name: str) -> None:
        if modality in self._trained or modality not in self._expected:
            return
        identity, expected = tower.identity, self._expected[modality]
        if identity != expected:
            raise UserError(
                f"the {modality} encoder '{name}' is not the one that this student was trained with "
                f"(identity {identity}, not {expected})",
                remedy="bring back that encoder's weights and version of recdistill, or train the student anew",
            )


def build_network(modality: str, architecture: Mapping[str, Any], config: EncodersConfig) -> Network:
    """The network of a modality's tower, its weights to be loaded; no tower's folder is needed."""
    if modality == "text":
        return build_text(architecture)
    if modality == "image":
        assert config.image is not None
        return build_image(architecture, config.image)
    return build_audio(architecture)


def resolved(config: EncodersConfig) -> EncodersConfig:
    """The same settings with local folders as absolute paths, so that a student finds them from anywhere."""
    changed = {}
    for modality in ("text", "image", "audio"):
        tower = getattr(config, modality)
        if (
            tower is not None
            and not tower.name.startswith(PACKAGED)
            and (folder := Path(tower.name).expanduser()).is_dir()
        ):
            changed[modality] = tower.model_copy(update={"name": str(folder.resolve())})
    return config.model_copy(update=changed)
