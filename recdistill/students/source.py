"""Where a student's features come from."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class FeatureSource(Protocol):
    def __len__(self) -> int: ...

    def batch(self, rows: Tensor | slice) -> tuple[dict[str, Tensor], dict[str, Tensor]]: ...
