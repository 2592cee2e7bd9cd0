"""The student's configuration in the ecosystem's form (``config.json`` of a model folder)."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from recdistill.errors import UserError

MODEL_TYPE = "recdistill-student"
# What a saved student's weights mean. 0 stands for all that was saved before this was written: of a fusing student with
# the small Transformer these may be of tokens as the adapters gave them, or of unit variance (fusion.UnitAdapter).
FORMAT = 1


class RecDistillStudentConfig(PreTrainedConfig):
    """All that is needed to build the student, its featurizer's shapes and its towers' names included.

    Attributes:
        format_version: FORMAT of the student's making; 0 where the file does not tell.
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

    format_version: int = 0
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

    def check_format(self) -> None:
        """Refuse weights that would give other vectors than those they were trained for.

        Raises:
            UserError: the student is of a later format, or of an earlier one that does not tell what its tokens are.
        """
        if self.format_version > FORMAT:
            raise UserError(
                f"{self._where()} has format {self.format_version}; this recdistill reads up to {FORMAT}",
                remedy="install the recdistill that saved it, or a later one",
            )
        if self.format_version < 1 and self.kind == "fusion" and self.fuser is None:
            raise UserError(
                f"{self._where()} is a fusing student of a recdistill that wrote no format_version: its tokens' scale "
                "is not known, and so what its weights mean",
                remedy="train and export it again (recdistill run does so when the run folder is new)",
            )

    def _where(self) -> str:
        return str(self.name_or_path or "the student")
