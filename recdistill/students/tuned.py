"""The towers that belong to a student, since they are trained with it: their weights travel in its own.

A model folder keeps beside the weights ``towers/<modality>/``: a tower's settings and its tokenizer or processor, so
that the folder from which the tower came is never needed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from recdistill.students.config import PACKAGED, EncodersConfig
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.source import copy_settings, find_model
from recdistill.students.encoders.towers import build_network
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.raw import RawUnits, idle, run_tower
from recdistill.students.source import Features
from recdistill.students.tuning import make_trainable

_FOLDER = "towers"


class TunedTowers(nn.Module):
    """Networks by modality.

    Args:
        towers: by modality, ``architecture`` and ``plan`` (see :func:`recdistill.students.tuning.plan_tuning`).
        given: the frozen towers from which the training starts; None: their weights are loaded later.
    """

    def __init__(
        self, towers: Mapping[str, Any], encoders: EncodersConfig, *, given: Mapping[str, Trained] | None = None
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict()
        self._names = {modality: getattr(encoders, modality).name for modality in towers}
        self._folders = {modality: tower.folder for modality, tower in (given or {}).items()}
        for modality, about in towers.items():
            known = None if given is None else given[modality].network
            network = build_network(modality, about["architecture"], encoders) if known is None else known
            make_trainable(network, about["plan"])
            if known is not None:
                for module in network.modules():
                    module._is_hf_initialized = True  # type: ignore[assignment]  # or transformers draws its weights anew
            self.networks[modality] = network

    def forward(self, features: Features, featurizer: Featurizer, *, reads: Sequence[str]) -> dict[str, Tensor]:
        """Features [B, T, w] of all modalities: raw ones through their towers, the others as they are.

        Args:
            reads: modalities that the student reads.
        """
        done: dict[str, Tensor] = {}
        asked = []
        for modality, values in features.items():
            if isinstance(values, RawUnits):
                done[modality] = run_tower(cast(Network, self.networks[modality]), featurizer, modality, values)
                asked += [modality] if len(values.owner) else []
            else:
                done[modality] = values
        unasked = [network for modality, network in self.networks.items() if modality not in asked]
        anywhere = next((modality for modality in reads if modality in done), None)
        if self.training and unasked and anywhere is not None:
            done[anywhere] = done[anywhere] + idle(unasked)
        return done

    def trained(self, home: str) -> dict[str, Trained]:
        """The towers as :class:`recdistill.students.encoders.towers.Towers` takes them.

        Args:
            home: the folder or name that the student was loaded from.
        """
        return {m: Trained(cast(Network, network), self._folder(m, home)) for m, network in self.networks.items()}

    def save_settings(self, to: Path, *, home: str) -> None:
        """Write ``towers/`` into a model folder; ``home`` as of :meth:`trained`."""
        for modality in self.networks:
            folder = self._folder(modality, home)
            if folder is not None:
                copy_settings(folder, to / _FOLDER / modality)

    def _folder(self, modality: str, home: str) -> Path | None:
        if modality in self._folders:
            return self._folders[modality]
        if self._names[modality] == f"{PACKAGED}efficientnet-lite0":
            return None
        return find_model(home) / _FOLDER / modality
