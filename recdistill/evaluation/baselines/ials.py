"""iALS by its item factors: a query is the mean of its items' factors, as every subject with vectors is asked.

Shapes: I items of the catalogue, d width.
"""

from __future__ import annotations

from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.ials import item_factors


class Ials:
    """Matrix factorisation of one fit's positives.

    Args:
        dim: d.
        iterations: sweeps over users and items.
        seed: of the factors at the start.
    """

    def __init__(self, material: Material, *, dim: int, iterations: int, seed: int) -> None:
        self._material, self._dim, self._iterations, self._seed = material, dim, iterations, seed

    def fit(self, *, alpha: float, l2: float, cosine: float = True) -> VectorSubject:
        """Factors of the items with a positive.

        Args:
            alpha: weight of a positive against an unknown.
            l2: penalty of squared factors.
            cosine: compare by cosine, or (0) by dot product, which rewards popular items; the factors are the same.

        Raises:
            UserError: the package `implicit` is not installed.
        """
        vectors = item_factors(
            self._material.positives,
            dim=self._dim,
            alpha=alpha,
            l2=l2,
            iterations=self._iterations,
            seed=self._seed,
        )
        return VectorSubject("ials", vectors, self._material.support > 0, cosine=bool(cosine))
