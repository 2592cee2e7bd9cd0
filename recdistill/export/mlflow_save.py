"""Saving the student in MLflow's model format, into a folder."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

import mlflow.pyfunc
import pyarrow.parquet as pq
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from recdistill.contracts import names
from recdistill.export.rows import AUDIO, IMAGE, ITEM

_CODE = Path(__file__).with_name("mlflow_model.py")
_NEEDED = ("recdistill", "torch", "transformers", "numpy", "pandas")
_TYPES: dict[str, DataType | Array] = {
    names.TEXT_PREFIX: DataType.string,
    names.TAGS_PREFIX: Array(DataType.string),
    names.NUMBER_PREFIX: DataType.double,
}


def save_model(
    path: Path, *, student: Path, codebooks: Path, items: Path, level: float, content_level: Path | None
) -> None:
    """Write the model folder ``path`` (load it with ``mlflow.pyfunc.load_model``).

    Its signature names the content columns of the catalogue, each optional, and the JSON column ``item``.

    Args:
        student: the student's Hugging Face folder.
        codebooks: the semantic IDs' codebooks.
        items: the catalogue, read for its column names only.
        level: of new items, which is all that a model of unseen items embeds.
        content_level: what their content adds to it (:class:`recdistill.features.content_level.ContentLevel`).
    """
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(kind, column, required=False)
        for column in pq.read_schema(items).names
        for prefix, kind in _TYPES.items()
        if column.startswith(prefix)
    ]
    inputs += [ColSpec(DataType.binary, column, required=False) for column in (IMAGE, AUDIO)]
    inputs.append(ColSpec(DataType.string, ITEM, required=False))
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(DataType.float), "embedding"),
        ColSpec(DataType.string, "semantic_id"),
        ColSpec(DataType.double, "level"),
    ]
    artifacts = {"student": student, "codebooks": codebooks}
    if content_level is not None:
        artifacts["content_level"] = content_level
    with warnings.catch_warnings():
        # An example would be sent through the whole model, towers and all, at every export.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        mlflow.pyfunc.save_model(
            path=str(path),
            python_model=str(_CODE),
            artifacts={name: str(of) for name, of in artifacts.items()},
            model_config={names.LEVEL: level},
            signature=ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs)),
            # Without the build's own mark (torch 2.13.0+cpu), which no index may have.
            pip_requirements=[f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _NEEDED],
        )
