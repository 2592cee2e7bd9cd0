"""What one step draws, and what its objectives see of it.

Shapes: B pairs, L query length, N distinct items of the step, d student width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recdistill.distill.pairs import Batch
from recdistill.students import RecDistillStudent
from recdistill.students.source import Features, take


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Draw:
    """What a step draws.

    Attributes:
        rows: [N] its distinct items, ascending.
        pairs: None where items are drawn, not pairs.
        hard: [E] item rows mined as hard negatives, none a target of the pairs.
        catalogue: [A] item rows drawn evenly.
        more: by an objective's name, the item rows that it drew beside.
    """

    rows: Tensor
    pairs: Batch | None = None
    hard: Tensor = field(default_factory=_none)
    catalogue: Tensor = field(default_factory=_none)
    more: Mapping[str, Tensor] = field(default_factory=dict)

    def places(self, items: Tensor) -> Tensor:
        """Where among ``rows`` some of the step's items are; of any shape."""
        return torch.searchsorted(self.rows, items)


@dataclass(frozen=True)
class Encoded:
    """A step's items as the student sees them.

    Attributes:
        vectors: [N, d] of the step's items, with their gradient; of any length, but with a skip connection of 1.
        features, present: what the student was given of them.
        head: makes a query's vector of its items' ([B, L, d] and [B, L] bool → [B, d]).
        prefixes: widths that serve.
        query_widths: prefixes of which the head makes a query's vector.
        again: [n, d] each, what :meth:`encode_again` gave.
    """

    draw: Draw
    vectors: Tensor
    features: Features
    present: Mapping[str, Tensor]
    student: RecDistillStudent
    head: nn.Module
    prefixes: tuple[int, ...]
    query_widths: tuple[int, ...]
    again: list[Tensor] = field(default_factory=list)

    def encode_again(self, places: Tensor) -> Tensor:
        """[n, d] of some of the step's items, by another draw of what training hides."""
        vectors: Tensor = self.student(*take(self.features, self.present, places))
        self.again.append(vectors)
        return vectors

    @property
    def outputs(self) -> list[Tensor]:
        """All that the student gave for the step, of which objectives are functions."""
        return [self.vectors, *self.again]

    @property
    def rows(self) -> Tensor:
        """[N] item rows."""
        return self.draw.rows

    @property
    def pairs(self) -> Batch:
        """The step's pairs, which an objective ``on_pairs`` may count on."""
        assert self.draw.pairs is not None, "the step drew items, not pairs"
        return self.draw.pairs

    @cached_property
    def target(self) -> Tensor:
        """[B] place of each pair's target among the step's items."""
        return self.draw.places(self.pairs.target)

    @cached_property
    def asked(self) -> Tensor:
        """Places of the items that objectives of items are about: distinct targets, or all where items were drawn."""
        return torch.arange(len(self.rows)) if self.draw.pairs is None else self.target.unique()

    @cached_property
    def taught(self) -> Tensor:
        """Places of the items of which ID teachers are asked: those, and what was drawn of the catalogue beside."""
        return torch.cat([self.asked, self.draw.places(self.draw.catalogue)]).unique()

    @cached_property
    def hard(self) -> Tensor:
        """[E] places of the hard negatives."""
        return self.draw.places(self.draw.hard)

    @cached_property
    def in_query(self) -> Tensor:
        """[B, L] bool: where a query has an item, and no padding."""
        return self.pairs.query >= 0

    @cached_property
    def pair_vectors(self) -> Tensor:
        """[B, L + 1, d] of the queries' items (anything where padded) and, last, of the targets."""
        where = torch.zeros_like(self.pairs.query)
        where[self.in_query] = self.draw.places(self.pairs.query[self.in_query])
        # One gather for queries and targets: F.embedding's backward is much faster than that of indexing.
        return F.embedding(torch.cat([where, self.target[:, None]], dim=1), self.vectors)
