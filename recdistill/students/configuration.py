"""The student's configuration in the ecosystem's form (``config.json`` of a model folder)."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

MODEL_TYPE = "recdistill-student"


class RecDistillStudentConfig(PreTrainedConfig):
    """All that is needed to build the student, its featurizer's shapes and its towers' names included.

    Attributes:
        kind, dim, prefixes, modality_dropout, field_dropout, feature_dropout, instructions, attention,
            fusion_*: as in :class:`recdistill.students.StudentConfig`.
        modalities: those the student reads, in its order.
        fuser: of the Hugging Face decoder that fuses its ``architecture`` (a configuration), ``training``, and ``rank``
            and ``alpha`` of its adapters; None without one.
        skip: ``share`` of the untrained content, and the ``columns`` that are kept of it; None without
            a skip connection.
        towers: of the towers that belong to the student, by modality: their ``architecture`` and the ``plan`` by which
            they are tuned.
        featurizer: the ``spec`` of :class:`recdistill.students.featurizer.featurizer.Featurizer`.
    """

    model_type = MODEL_TYPE

    kind: str = "linear"
    dim: int = 128
    prefixes: list[int] | None = None
    modalities: list[str] | None = None
    modality_dropout: float = 0.0
    field_dropout: float = 0.0
    feature_dropout: float = 0.0
    fusion_width: int = 128
    fusion_depth: int = 2
    fusion_heads: int = 4
    fusion_queries: int = 16
    attention: str = "bidirectional"
    fuser: dict[str, Any] | None = None
    instructions: dict[str, str] | None = None
    skip: dict[str, Any] | None = None
    towers: dict[str, Any] | None = None
    featurizer: dict[str, Any] | None = None
