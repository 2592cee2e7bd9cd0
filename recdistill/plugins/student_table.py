"""The student's vectors as a part of a TorchRec ranker.

Shapes: n items, d width, N rows in B bags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType

from recdistill.errors import UserError
from recdistill.features.space import to_unit
from recdistill.plugins.bags import bag_of, known_bags
from recdistill.plugins.resizing import take_shapes

_ANCHORS = 16
_SAME = 1e-3


class StudentTable(nn.Module):
    """Vectors of items by row (``ItemVocabulary.rows``), frozen or trained along.

    An unknown item (row -1) has the zero vector and the flag 0; an item whose vector is zero has the flag 1, so that a
    ranker can tell them apart. A trained table gets a dense gradient of all n rows at each step: one that is large
    belongs into the ranker's own collection of bags, where :meth:`config` and :meth:`fill` put it.

    What the checkpoint holds beside the vectors: the mean that was taken off, for rows that are added later, and 16
    vectors as they were given, by which vectors of another student are refused: two students' spaces have nothing to
    do with each other, and a new training of the same recipe is another student.

    Args:
        vectors: [n, d] as exported.
        centre: take the mean direction of these n off and make the vectors unit length; else they stay as they are.
            Match features and semantic IDs are centred.
        trainable: train the vectors along.

    Memory: 4 · n · d bytes; trained, twice that and the optimizer's state.
    """

    mean: Tensor
    anchors: Tensor
    anchor_rows: Tensor
    centred: Tensor

    def __init__(self, vectors: np.ndarray, *, centre: bool, trainable: bool) -> None:
        super().__init__()
        mean = np.zeros(vectors.shape[1], dtype=np.float32)
        if centre:
            mean = to_unit(vectors, mean=mean).mean(axis=0, dtype=np.float64).astype(np.float32)
        rows = np.unique(np.linspace(0, len(vectors) - 1, min(_ANCHORS, len(vectors))).astype(np.int64))
        self.register_buffer("centred", torch.tensor(centre))
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("anchor_rows", torch.from_numpy(rows))
        self.register_buffer("anchors", torch.from_numpy(np.asarray(vectors[rows], dtype=np.float32)))
        self.weight = nn.Parameter(self._placed(vectors), requires_grad=trainable)

    @property
    def width(self) -> int:
        """d."""
        return self.weight.shape[1]

    def forward(self, rows: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean vector of each bag's known items; bags of one are the vectors that attention (DIN's, say) asks for.

        Args:
            rows: [N] int64, -1 for an unknown item.
            lengths: [B] how many of the rows each bag has, such as a user's history; None: one each.

        Returns:
            [B, d], zero for a bag without a known item, and [B] float32 flags: 1 where there is one.
        """
        rows, kept = known_bags(rows, lengths)
        total = self.weight.new_zeros(len(kept), self.width)
        total = total.index_add(0, bag_of(kept), nn.functional.embedding(rows, self.weight))
        return total / kept.clamp(min=1).unsqueeze(1), (kept > 0).to(total.dtype)

    def append(self, vectors: np.ndarray) -> None:
        """Add rows of new items behind those there are: nothing is trained, and no other vector changes.

        The same mean is taken off. An optimizer of a trained table has to be made anew.

        Raises:
            UserError: the vectors are of another width.
        """
        self._check_width(vectors)
        self.weight.data = torch.cat([self.weight.data, self._placed(vectors).to(self.weight.device)])
        self.weight.grad = None

    def check_space(self, rows: Tensor, vectors: np.ndarray) -> None:
        """Refuse vectors of another student.

        Args:
            rows: [m] int64 rows of items that the table has already.
            vectors: [m, d] their vectors in the other table. Where none of them is one of the 16 that the table
                remembers, nothing can be said.

        Raises:
            UserError: an item's vector there is not what it was here, or of another width.
        """
        self._check_width(vectors)
        same, at = (rows.cpu().unsqueeze(1) == self.anchor_rows.cpu()).nonzero(as_tuple=True)
        gap = np.abs(vectors[same.numpy()] - self.anchors.cpu()[at].numpy())
        if gap.size and gap.max() > _SAME:
            raise UserError(
                f"the vectors come from another student: those of {len(same)} items that both know differ by up to "
                f"{gap.max():.3g}",
                remedy="add rows from an export of the same student, or build the ranker anew on the new one",
            )

    def config(self, feature_names: Sequence[str], *, name: str = "student") -> EmbeddingBagConfig:
        """The table as one of a collection of bags, mean-pooled, filled with the vectors by its ``init_fn``.

        A plain ``EmbeddingBagCollection`` calls that. A fused one does not, and draws its vectors at random: call
        :meth:`fill` on it. There the vectors are trained along, since a fused optimizer steps all tables.
        """
        return EmbeddingBagConfig(
            name=name,
            embedding_dim=self.width,
            num_embeddings=len(self.weight),
            feature_names=list(feature_names),
            pooling=PoolingType.MEAN,
            init_fn=self._copy_into,
        )

    def fill(self, collection: nn.Module, *, name: str = "student") -> None:
        """Copy the vectors into the table of that name in a collection of bags, plain or fused.

        Raises:
            UserError: the collection has no such table, or one of another shape.
        """
        found = {key.split(".")[-2]: value for key, value in collection.state_dict().items() if key.endswith(".weight")}
        if name not in found or found[name].shape != self.weight.shape:
            tables = ", ".join(f"{key} {list(value.shape)}" for key, value in found.items())
            raise UserError(
                f"no table '{name}' of shape {list(self.weight.shape)} (found: {tables or 'none'})",
                remedy="give the collection StudentTable.config(…) as one of its tables",
            )
        self._copy_into(found[name])

    def bags(self, rows: Tensor, lengths: Tensor | None = None, *, feature: str) -> KeyedJaggedTensor:
        """The lookups of such a table, unknown items left out: [B] bags of one feature."""
        rows, kept = known_bags(rows, lengths)
        return KeyedJaggedTensor(keys=[feature], values=rows, lengths=kept)

    @torch.no_grad()
    def _copy_into(self, weight: Tensor) -> None:
        weight.copy_(self.weight)

    def _placed(self, vectors: np.ndarray) -> Tensor:
        placed = to_unit(vectors, mean=self.mean.cpu().numpy()) if self.centred else vectors
        return torch.from_numpy(np.array(placed, dtype=np.float32))

    def _check_width(self, vectors: np.ndarray) -> None:
        if vectors.shape[1] != self.width:
            raise UserError(
                f"the vectors are {vectors.shape[1]} wide, the table {self.width}",
                remedy="add rows from an export of the same student",
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        take_shapes(self, ("weight", "anchors", "anchor_rows"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)
