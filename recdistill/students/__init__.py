"""Students: frozen towers with a cache, the featurizer, and the models that place an item by its content.

Names are imported on first use, so that ``import recdistill`` and a recipe's settings need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recdistill.students.build import build_student
    from recdistill.students.config import EncodersConfig, StudentConfig
    from recdistill.students.configuration import RecDistillStudentConfig
    from recdistill.students.modeling import RecDistillStudent
    from recdistill.students.source import FeatureSource
    from recdistill.students.sources import feature_source
    from recdistill.students.stage import encode
    from recdistill.students.store import FeatureStore

_HOME = {
    "EncodersConfig": "config",
    "FeatureSource": "source",
    "FeatureStore": "store",
    "RecDistillStudent": "modeling",
    "RecDistillStudentConfig": "configuration",
    "StudentConfig": "config",
    "build_student": "build",
    "encode": "stage",
    "feature_source": "sources",
}

__all__ = [
    "EncodersConfig",
    "FeatureSource",
    "FeatureStore",
    "RecDistillStudent",
    "RecDistillStudentConfig",
    "StudentConfig",
    "build_student",
    "encode",
    "feature_source",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
