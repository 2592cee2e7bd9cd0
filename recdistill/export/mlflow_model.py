"""The student as an MLflow model, saved as this very code ("models from code"): no pickle is written or read.

``predict`` takes rows as :mod:`recdistill.export.rows` says and gives, for each, ``embedding`` (list of float32, as
``RecDistillStudent.encode`` makes it), ``semantic_id`` (by the exported codebooks) and ``level`` (the new-item level
and, where the student gives items a level of their own, what the row's content says of that: one more coordinate,
against which a query has 1, as in the exported tables). ``AutoModel`` knows the student because importing anything of
recdistill registers it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from transformers import AutoModel

from recdistill.contracts import names
from recdistill.export.rows import items_of
from recdistill.features.content_level import ContentLevel
from recdistill.features.semantic_ids import Codebooks, as_text

STUDENT = "student"
CODEBOOKS = "codebooks"
CONTENT_LEVEL = "content_level"


class StudentModel(PythonModel):
    """Embeds items that it has never seen."""

    def load_context(self, context: Any) -> None:
        """Load the student's folder, the codebooks and the content's level, if any, from the model's artifacts."""
        self.student = AutoModel.from_pretrained(Path(context.artifacts[STUDENT])).eval()
        self.codebooks = Codebooks.load(Path(context.artifacts[CODEBOOKS]))
        found = context.artifacts.get(CONTENT_LEVEL)
        self.content_level = None if found is None else ContentLevel.load(Path(found))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of ``embedding``, ``semantic_id`` and ``level`` for each input row, in its order."""
        vectors = self.student.encode(items_of(model_input))
        codes = self.codebooks.encode(vectors)
        own = 0.0 if self.content_level is None else self.content_level(vectors)
        return pd.DataFrame(
            {
                "embedding": list(vectors),
                "semantic_id": as_text(codes),
                names.LEVEL: float(context.model_config[names.LEVEL]) + own,
            }
        )


set_model(StudentModel())
