"""The item side of an export in one module: its ids, vectors and semantic IDs.

Shapes: n items, d width of the vectors, q ids, B batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from recdistill.plugins.exported import Exported
from recdistill.plugins.semantic_id_bags import SemanticIdBags
from recdistill.plugins.student_table import StudentTable
from recdistill.plugins.vocabulary import ItemVocabulary


class ItemFeatures(nn.Module):
    """What a TorchRec ranker needs to know of its items, by their own ids.

    .. code-block:: python

        features = ItemFeatures.read(Path("runs/mine/export"))
        tables = [*own_tables, *features.sids.configs(embedding_dim=16)]
        ranker = DLRM(EmbeddingBagCollection(tables=tables), dense_in_features=own + features.width, …)

        rows = features.rows(batch_item_ids)  # once a row of data: the rest is tensors
        logits = ranker(
            torch.cat([own_dense, features.dense(rows)], dim=1),
            KeyedJaggedTensor.concat([own_sparse, features.sids(rows)]),
        )

    Vocabulary, vectors and codes belong together row by row: they are added to, saved and loaded as one. Rows of data
    have no time here, so nothing warns of those that the student has learned from: a ranker that is to be tested needs
    an export whose ``Exported.trained_until`` is before all its rows.

    Args:
        exported: the tables.
        centre, trainable: as in :class:`StudentTable`.
        max_rows: as in :class:`SemanticIdBags`.
    """

    def __init__(
        self, exported: Exported, *, centre: bool = True, trainable: bool = False, max_rows: int = 1 << 20
    ) -> None:
        super().__init__()
        self.vocabulary = ItemVocabulary(exported.embeddings.ids)
        self.student = StudentTable(exported.embeddings.vectors, centre=centre, trainable=trainable)
        self.sids = SemanticIdBags(exported.codes, sizes=exported.sizes, residual=exported.residual, max_rows=max_rows)

    @classmethod
    def read(cls, folder: Path | str, *, centre: bool = True, trainable: bool = False, max_rows: int = 1 << 20) -> Self:
        """Of an export folder.

        Raises:
            UserError: as :meth:`Exported.read`.
        """
        return cls(Exported.read(folder), centre=centre, trainable=trainable, max_rows=max_rows)

    @property
    def width(self) -> int:
        """d + 1: what :meth:`dense` gives."""
        return self.student.width + 1

    def rows(self, ids: Any) -> Tensor:
        """[q] int64 row of each id, -1 for an item that is not known; errors as :meth:`ItemVocabulary.rows`."""
        return self.vocabulary.rows(ids)

    def dense(self, rows: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, d + 1]: the vectors, and whether there is one."""
        vectors, known = self.student(rows, lengths)
        return torch.cat([vectors, known.unsqueeze(1)], dim=1)

    def add(self, exported: Exported) -> int:
        """Add the items that are not known yet: vectors of the same student, coded with the same codebooks.

        An export fits its codebooks anew unless it continues earlier IDs. To a ranker that is in service new items
        come by the student and the codebooks that it was trained on:
        ``Exported(table, Codebooks.load(path).encode(table.vectors), sizes)``, where the table has the vectors that
        ``student.encode`` gives the items. What is known already stays as it is.

        Returns:
            How many there were.

        Raises:
            UserError: an id stands there twice, or the vectors come from another student, or the semantic IDs from
                other codebooks, as far as items that both know can tell. Nothing is added then.
        """
        ids, vectors = exported.embeddings.ids, exported.embeddings.vectors
        rows = self.rows(ids)
        known = (rows >= 0).cpu().numpy()
        self.vocabulary.check_new(ids[~known])
        self.student.check_space(rows[rows >= 0], vectors[known])
        self.sids.check_codes(rows[rows >= 0], exported.codes[known], sizes=exported.sizes)
        self.sids.append(exported.codes[~known])
        self.student.append(vectors[~known])
        self.vocabulary.append(ids[~known])
        return int((~known).sum())
