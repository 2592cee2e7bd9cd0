"""Tag fields of few values as multi-hots: genres say more when they are not squeezed into an SVD.

Shapes: n items, V values of all such fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.featurizer.scaling import unit_scale

Tags = Mapping[str, Sequence[str]]


class DirectTags(nn.Module):
    """Each field's values weighted by rarity and L2-normalised; centred over items that have the field, mean norm 1.

    A field that an item lacks, or whose values are all unknown, is zero.
    """

    weight: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, *, values: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.values = {field: list(known) for field, known in values.items()}
        pairs = [(field, value) for field, known in self.values.items() for value in known]
        self._column = {pair: column for column, pair in enumerate(pairs)}
        self._field_of = [list(self.values).index(field) for field, _ in pairs]
        self.width = len(pairs)
        self.register_buffer("weight", torch.zeros(self.width))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, items: Sequence[Tags], *, fields: Sequence[str], most: int) -> DirectTags | None:
        """Fit on a catalogue's normalised tags; None if no field has between 2 and ``most`` values."""
        counts = {field: Counter(value for tags in items for value in tags.get(field, ())) for field in fields}
        few = {field: sorted(counted) for field, counted in counts.items() if 2 <= len(counted) <= most}
        if not few:
            return None
        fitted = cls(values=few)
        rarity = [np.log((1 + len(items)) / counts[field][value]) for field, known in few.items() for value in known]
        fitted.weight.copy_(torch.tensor(rarity))
        hot, has = fitted._multi_hot(items)
        fitted.mean.copy_(hot.double().sum(0) / has.sum(0).clamp(min=1))
        vectors = fitted(items)
        fitted.scale.copy_(unit_scale(vectors[has.any(1)]))
        return fitted

    def forward(self, items: Sequence[Tags]) -> Tensor:
        """[n, V] float32."""
        hot, has = self._multi_hot(items)
        return torch.where(has, (hot - self.mean) * self.scale, 0.0)

    def _multi_hot(self, items: Sequence[Tags]) -> tuple[Tensor, Tensor]:
        """[n, V] weighted, normalised per field; and [n, V] bool: the item has a known value of the column's field."""
        places = [
            (row, self._column[field, value])
            for row, tags in enumerate(items)
            for field in self.values
            for value in tags.get(field, ())
            if (field, value) in self._column
        ]
        device = self.weight.device
        hot = torch.zeros(len(items), self.width, device=device)
        if places:
            rows, columns = torch.tensor(places, device=device).T
            hot[rows, columns] = self.weight[columns]
        field_of = torch.eye(len(self.values), device=device)[self._field_of]  # [V, fields]
        norm = (hot.square() @ field_of).sqrt() @ field_of.T  # [n, V]
        return hot / norm.clamp(min=1e-12), norm > 0
