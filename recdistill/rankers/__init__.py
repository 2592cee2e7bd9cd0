"""Downstream rankers: what each feature group is worth in AUC and, as a proxy, in days of return.

``rank`` is imported on first use: TorchRec takes seconds to import, and reading a recipe needs only its settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recdistill.lifetime.config import LifetimeConfig
from recdistill.rankers.config import RankConfig

if TYPE_CHECKING:
    from recdistill.rankers.stage import rank

__all__ = ["LifetimeConfig", "RankConfig", "rank"]


def __getattr__(name: str) -> Any:
    if name != "rank":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recdistill.rankers.stage import rank

    return rank
