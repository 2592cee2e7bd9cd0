"""Fitted codebooks: any vector of the space, known or new, to its codes, and codes back to a vector.

Shapes: n items, d width, L levels, k_l codes of level l, z width in which the levels lie (d, or an RQ-VAE's latent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.features.semantic_ids.autoencoder import Autoencoder
from recdistill.features.semantic_ids.levels import nearest
from recdistill.features.space import to_unit

_AUTOENCODER = "autoencoder."
_RESIDUAL = "residual"


@dataclass(frozen=True)
class Codebooks:
    """Centroids of every level, and how a vector comes to where they lie, whatever method found them.

    Attributes:
        mean: [d] float32, what is taken off a vector's direction before it is coded.
        levels: L arrays [k_l, z] float32.
        residual: a level codes what the levels before it left over (TIGER, arXiv 2305.05065, section 3.1); else every
            level codes the vector itself, each more finely than the one before.
        autoencoder: of an RQ-VAE, between d and z; else the levels lie among the directions, z = d.
    """

    mean: np.ndarray
    levels: tuple[np.ndarray, ...]
    residual: bool = True
    autoencoder: Autoencoder | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(level) for level in self.levels)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """[n, L] int32 codes of vectors [n, d] of any length, known or new, by nearest centroid (ties: the lower code).

        Raises:
            UserError: the vectors are of another width.
        """
        if vectors.shape[1] != len(self.mean):
            raise UserError(
                f"vectors are {vectors.shape[1]} wide, the codebook {len(self.mean)}",
                remedy="code vectors with the codebook that was fitted on their table",
            )
        left = to_unit(vectors, mean=self.mean)
        if self.autoencoder is not None:
            left = self.autoencoder.encode(left)
        codes = np.empty((len(vectors), len(self.levels)), dtype=np.int32)
        for at, level in enumerate(self.levels):
            codes[:, at] = nearest(left, level)
            if self.residual:
                left = left - level[codes[:, at]]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """[n, d] float32 of length one: the centred direction that codes [n, L] stand for.

        Residual levels add up; of levels that each code the vector itself, the finest says it best.
        """
        parts = [level[codes[:, at]] for at, level in enumerate(self.levels)]
        stood = np.sum(parts, axis=0) if self.residual else parts[int(np.argmax(self.sizes))]
        if self.autoencoder is not None:
            stood = self.autoencoder.decode(stood)
        return to_unit(stood, mean=np.zeros_like(self.mean))

    def buckets(self, codes: np.ndarray) -> np.ndarray:
        """[n, L] int64: of every level, the number of the items that belong together there: a ranker's sparse feature.

        The code itself where a level codes the vector; among residual levels the prefix up to it, since a residual
        code means little without those before.
        """
        return prefixes(codes, sizes=self.sizes) if self.residual else codes.astype(np.int64)

    def save(self, path: Path) -> None:
        """Write as safetensors: ``mean``, ``level_0``, ``level_1`` …, and an autoencoder's weights by name."""
        tensors = {"mean": self.mean, **{f"level_{at}": level for at, level in enumerate(self.levels)}}
        if self.autoencoder is not None:
            tensors |= {_AUTOENCODER + name: value for name, value in self.autoencoder.tensors().items()}
        about = {_RESIDUAL: str(self.residual).lower()}
        with atomic(path) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, about)

    @classmethod
    def load(cls, path: Path) -> Codebooks:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: the file holds no codebooks.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
                about = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: no codebooks ({error})", remedy="run the export stage") from error
        if not {"mean", "level_0"} <= tensors.keys():
            raise UserError(f"{path}: no codebooks: neither a mean nor a level", remedy="run the export stage")
        weights = {name.removeprefix(_AUTOENCODER): tensors.pop(name) for name in [*tensors] if _AUTOENCODER in name}
        return cls(
            tensors["mean"],
            tuple(tensors[f"level_{at}"] for at in range(len(tensors) - 1)),
            residual=about.get(_RESIDUAL, "true") == "true",
            autoencoder=Autoencoder.of(weights) if weights else None,
        )


def prefixes(codes: np.ndarray, *, sizes: Sequence[int]) -> np.ndarray:
    """[n, L] int64: the number of each prefix (code_0 … code_l)."""
    result = codes.astype(np.int64)
    for at in range(1, result.shape[1]):
        result[:, at] += result[:, at - 1] * sizes[at]
    return result
