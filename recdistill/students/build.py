"""Making a new student for a catalogue whose content has been encoded."""

from __future__ import annotations

from pathlib import Path

import torch

from recdistill.errors import UserError
from recdistill.students.config import MODALITIES, StudentConfig
from recdistill.students.configuration import RecDistillStudentConfig
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.modeling import RecDistillStudent


def build_student(config: StudentConfig, *, content: Path, seed: int) -> RecDistillStudent:
    """A student with weights drawn from ``seed`` and the featurizer of the ``encode`` stage's folder ``content``.

    Raises:
        UserError: the stage has not run, or a modality asked for was not encoded.
    """
    featurizer = Featurizer.load(content / "featurizer")
    absent = [m for m in config.modalities or () if m not in featurizer.widths]
    if absent:
        raise UserError(
            f"student.modalities names {', '.join(absent)}, but the catalogue has {', '.join(featurizer.widths)} only",
            remedy="leave it out, or check the encoders section and the items' columns",
        )
    read: list[str] = [
        m for m in MODALITIES if m in featurizer.widths and (config.modalities is None or m in config.modalities)
    ]
    full = RecDistillStudentConfig(
        kind=config.kind,
        dim=config.dim,
        prefixes=[width for width in config.prefixes if width < config.dim],
        modalities=read,
        modality_dropout=config.modality_dropout,
        feature_dropout=config.dropout,
        fusion_width=config.width,
        fusion_depth=config.depth,
        fusion_heads=config.heads,
        fusion_queries=config.queries,
        featurizer=featurizer.spec,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = RecDistillStudent(full)
    student.featurizer.load_state_dict(featurizer.state_dict())
    return student
