"""What a team adds to a ranker of its own: student vectors, semantic IDs, match features and reactions by the
user's own ids.

For TorchRec models: ``ItemFeatures`` (``ItemVocabulary``, ``StudentTable``, ``SemanticIdBags``) and ``DenseColumns``.
For tables: ``feature_frame``, and ``FeatureJoin`` for files that outgrow memory. They read an export folder and nothing
else of a run.

Names are imported on first use: TorchRec takes seconds to import, and who joins tables does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recdistill.plugins.dense_columns import DenseColumns
    from recdistill.plugins.exported import Exported
    from recdistill.plugins.frames import FeatureJoin, Keys, feature_frame
    from recdistill.plugins.item_features import ItemFeatures
    from recdistill.plugins.projection import Projection
    from recdistill.plugins.semantic_id_bags import SemanticIdBags
    from recdistill.plugins.student_table import StudentTable
    from recdistill.plugins.vocabulary import ItemVocabulary

__all__ = [
    "DenseColumns",
    "Exported",
    "FeatureJoin",
    "ItemFeatures",
    "ItemVocabulary",
    "Keys",
    "Projection",
    "SemanticIdBags",
    "StudentTable",
    "feature_frame",
]

_MODULES = {
    "DenseColumns": "dense_columns",
    "Exported": "exported",
    "FeatureJoin": "frames",
    "ItemFeatures": "item_features",
    "ItemVocabulary": "vocabulary",
    "Keys": "frames",
    "Projection": "projection",
    "SemanticIdBags": "semantic_id_bags",
    "StudentTable": "student_table",
    "feature_frame": "frames",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
