"""What gives a student its features: by item row, in batches.

Shapes: I items, B items of a batch, T tokens, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd
from torch import Tensor

from recdistill.students.raw import RawUnits

# By modality: [B, T, W] of a frozen tower, or what a tuned one reads.
Features = Mapping[str, Tensor | RawUnits]


class FeatureSource(Protocol):
    """A catalogue's features by item row."""

    @property
    def item_ids(self) -> pd.Index:
        """[I]."""
        ...

    def __len__(self) -> int: ...

    def prefetch(self, rows: Tensor | slice) -> None:
        """Begin to prepare a batch that will be asked for next."""
        ...

    def batch(self, rows: Tensor | slice) -> tuple[Features, Mapping[str, Tensor]]:
        """Features and masks [B] of some rows, as :meth:`RecDistillStudent.forward` takes them."""
        ...


def take(features: Features, present: Mapping[str, Tensor], rows: Tensor) -> tuple[Features, Mapping[str, Tensor]]:
    """Some rows of a batch."""
    return {m: values[rows] for m, values in features.items()}, {m: mask[rows] for m, mask in present.items()}
