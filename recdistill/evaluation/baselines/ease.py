"""EASE, with and without content.

A is the user-item matrix; with content its features join as further rows, so that AᵀA = XᵀX + β·ZZᵀ (Jeunen et al.,
RecSys 2020, "Closed-form models for collaborative filtering with side-information").

Shapes: I items of the catalogue, n items of the model, U users, c content width, r rows of A, B questions of a block.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.subjects import ScoreSubject
from recdistill.retrieval.ease import ease_weights, ease_weights_of_gram


class Ease:
    """EASE over the items that it can know: those with a positive, and with content if that is used.

    Args:
        material: of one fit.
        content_width: principal components of content used; 0 = plain EASE.
        max_items: keep only so many items, those with the most support.
    """

    def __init__(self, material: Material, *, content_width: int = 0, max_items: int | None = None) -> None:
        usable = material.support > 0
        if content_width:
            usable = usable | material.content_present
        items = np.flatnonzero(usable)
        if max_items is not None and len(items) > max_items:
            items = np.sort(items[np.argsort(-material.support[items], kind="stable")[:max_items]])
        self.name = "ease_content" if content_width else "ease"
        self.present = np.zeros(len(material.item_ids), dtype=bool)
        self.present[items] = True
        self._items = torch.from_numpy(items)
        columns = material.positives[:, items]
        columns = columns[np.diff(columns.indptr) > 0]
        self._content = _components(material.content, content_width)[items].T if content_width else None
        count = columns.shape[0] + (0 if self._content is None else len(self._content))
        self._by_rows = count < len(items)
        dense = columns if self._by_rows else columns.T @ columns
        self._behaviour = torch.from_numpy(dense.toarray().astype(np.float32))

    def fit(self, *, l2: float, beta: float = 0.0) -> ScoreSubject:
        """The model.

        Args:
            l2: λ.
            beta: weight of the content kernel; nothing without content.
        """
        if self._by_rows:
            rows = self._behaviour
            if self._content is not None:
                rows = torch.cat([rows, self._content * beta**0.5])
            weights = ease_weights(rows, l2=l2)
        else:
            gram = self._behaviour
            if self._content is not None:
                gram = torch.addmm(gram, self._content.T, self._content, alpha=beta)
            weights = ease_weights_of_gram(gram, l2=l2)
        place = torch.full((len(self.present),), -1, dtype=torch.long)
        place[self._items] = torch.arange(len(self._items))
        return ScoreSubject(self.name, _Rows(weights, place, self._items), self.present)


class _Rows:
    """Sum of the query items' rows of B."""

    def __init__(self, weights: Tensor, place: Tensor, items: Tensor) -> None:
        self._weights, self._place, self._items = weights, place, items

    def __call__(self, query: Tensor) -> Tensor:
        rows = torch.where(query >= 0, self._place[query.clamp(min=0)], -1)
        known = rows >= 0
        starts = torch.cumsum(known.sum(dim=1), dim=0) - known.sum(dim=1)
        total = embedding_bag(rows[known], self._weights, starts, mode="sum")
        if len(self._items) == len(self._place):
            return total
        return torch.zeros(len(query), len(self._place)).index_copy_(1, self._items, total)


def _components(content: np.ndarray, width: int) -> Tensor:
    """[I, ≤ width] float32 principal components of content (centred already)."""
    features = torch.from_numpy(content)
    if features.shape[1] <= width:
        return features
    _, directions = torch.linalg.eigh((features.T @ features).double())
    return features @ directions[:, -width:].float()
