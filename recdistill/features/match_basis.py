"""What match features are fitted on once, and must be the same wherever they and reactions are computed.

Shapes: n items, I items of a catalogue, d width, K interests.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits

from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.features.config import MatchConfig, ReactionConfig
from recdistill.features.space import Space

_MINI_BATCH_ABOVE = 100_000  # items
_PER_INTEREST = 10  # items, or a cluster is an item


@dataclass(frozen=True)
class MatchBasis:
    """The space's mean, the centroids of its interests, and the settings.

    Tomorrow's catalogue has other items, and would have another mean and other clusters: a ranker's columns would
    shift under it. So both are kept beside the vectors, and new items are placed by them.

    Attributes:
        mean: [d] float32, taken off an item's direction (``Space.mean``).
        centroids: [K, d] float32; an item's interest is the nearest one.
        config: settings of the match features.
        reaction: those of the reactions; None: the log has no negatives of its own, and there are none to tell apart.
    """

    mean: np.ndarray
    centroids: np.ndarray
    config: MatchConfig
    reaction: ReactionConfig | None = None

    @classmethod
    def fit(cls, space: Space, config: MatchConfig, *, seed: int, reaction: ReactionConfig | None = None) -> MatchBasis:
        """Interests of a space by k-means on its unit vectors; the same rows in the same order give the same ones.

        Memory: 4 · n · d bytes beside the space.
        """
        known = space.vectors[space.present]
        count = max(1, min(config.interests, len(known) // _PER_INTEREST))
        if not len(known):
            return cls(space.mean, np.zeros((1, space.vectors.shape[1]), dtype=np.float32), config, reaction)
        kind = MiniBatchKMeans if len(known) > _MINI_BATCH_ABOVE else KMeans
        options: dict[str, Any] = {"batch_size": 4096} if kind is MiniBatchKMeans else {}
        model = kind(count, n_init=1, random_state=seed, **options)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than interests
            centroids = model.fit(known).cluster_centers_.astype(np.float32)
        return cls(space.mean, centroids, config, reaction)

    def interests(self, space: Space) -> np.ndarray:
        """[I] int64 interest of each item, -1 without a vector."""
        found = np.full(len(space.vectors), -1, dtype=np.int64)
        if space.present.any():
            found[space.present] = pairwise_distances_argmin(space.vectors[space.present], self.centroids)
        return found

    def settings(self) -> dict[str, Any]:
        """What a table of the columns says of them in its metadata: match features' settings, and ``reaction``."""
        reaction = None if self.reaction is None else self.reaction.model_dump(mode="json")
        return {**self.config.model_dump(mode="json"), "reaction": reaction}

    def save(self, path: Path) -> None:
        """Write as safetensors: ``mean`` and ``centroids``, with the settings in the file's metadata."""
        tensors = {"mean": self.mean, "centroids": np.ascontiguousarray(self.centroids)}
        settings = {"config": self.config.model_dump_json()}
        if self.reaction is not None:
            settings["reaction"] = self.reaction.model_dump_json()
        with atomic(path) as temporary:
            save_file(tensors, temporary, metadata=settings)

    @classmethod
    def load(cls, path: Path) -> MatchBasis:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: there is no such file.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file", remedy="run the export stage again")
        with safe_open(path, framework="numpy") as file:
            settings = file.metadata()
            config = MatchConfig.model_validate_json(settings["config"])
            reaction = ReactionConfig.model_validate_json(settings["reaction"]) if "reaction" in settings else None
            return cls(file.get_tensor("mean"), file.get_tensor("centroids"), config, reaction)
