"""Making a new student for a catalogue whose content has been encoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recdistill.errors import UserError
from recdistill.students.config import StudentConfig, Tuning
from recdistill.students.configuration import FORMAT, RecDistillStudentConfig
from recdistill.students.encoders.text import HuggingFaceText
from recdistill.students.encoders.tower import NetworkTower
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.fusers import architecture_of, embedding_width, load_decoder
from recdistill.students.modeling import RecDistillStudent
from recdistill.students.prompts import prompt_features
from recdistill.students.skip import Skip, fit_content
from recdistill.students.stage import RAW_CONTENT
from recdistill.students.tuning import plan_tuning, tuned_towers


def build_student(
    config: StudentConfig, *, content: Path, seed: int, modality_weights: Mapping[str, float] | None = None
) -> RecDistillStudent:
    """A student with weights drawn from ``seed`` and the featurizer of the ``encode`` stage's folder ``content``.

    Args:
        modality_weights: what modalities count in a skip connection whose settings leave that open.

    Raises:
        UserError: the stage has not run, a modality asked for was not encoded, instructions are asked for and the
            catalogue has no text, or the fuser is not to be had or not one.
    """
    featurizer = Featurizer.load(content / "featurizer")
    absent = [m for m in config.modalities or () if m not in featurizer.widths]
    if absent:
        raise UserError(
            f"student.modalities names {', '.join(absent)}, but the catalogue has {', '.join(featurizer.widths)} only",
            remedy="leave it out, or check the encoders section and the items' columns",
        )
    read = config.reads(featurizer.widths)
    tuned = tuned_towers(config, featurizer, read=read)
    towers = Towers(featurizer.encoders, expected=featurizer.spec["identities"])
    plans: dict[str, Any] = {m: _plan(getattr(towers, m), config, how, m) for m, how in tuned.items()}
    if config.instructions and "text" not in featurizer.widths:
        raise UserError(
            "student.instructions are read by the text tower, but the catalogue has no encoded text",
            remedy="leave the instructions out, or encode the items' text",
        )
    decoder = load_decoder(config.fuser, causal=config.attention == "causal") if config.fuser else None
    if decoder is not None and "image" in read and (width := embedding_width(decoder)) % config.heads:
        raise UserError(
            f"student.heads ({config.heads}) does not divide the fuser's width ({width})",
            remedy="set student.heads to a divisor: the perceiver attends with as many heads",
        )
    kept = None
    if config.skip is not None:
        if not set(read) - set(tuned):
            raise UserError(
                f"student.skip keeps untrained content, but student.tuning trains the towers of all that is read "
                f"({', '.join(read)})",
                remedy="set student.skip to null, or leave a tower frozen",
            )
        columns = min(max(1, round(config.dim * config.skip.columns)), config.dim - 1)
        widths: dict[str, int] = {m: featurizer.widths[m] for m in read if m not in tuned}
        chosen = config.skip.weights if config.skip.weights is not None else modality_weights
        weights: dict[str, float] = {str(modality): weight for modality, weight in (chosen or {}).items()}
        kept = fit_content(content / RAW_CONTENT, widths, columns=columns, weights=weights)
    full = RecDistillStudentConfig(
        format_version=FORMAT,
        kind=config.kind,
        dim=config.dim,
        prefixes=[width for width in config.prefixes if width < config.dim],
        modalities=list(read),
        modality_dropout=config.modality_dropout,
        field_dropout=config.field_dropout,
        feature_dropout=config.dropout,
        fusion_width=config.width,
        fusion_depth=config.depth,
        fusion_heads=config.heads,
        fusion_queries=config.queries,
        attention=config.attention,
        fuser={
            "architecture": architecture_of(decoder),
            "training": config.fuser_training,
            "rank": config.lora_rank,
            "alpha": config.lora_alpha,
        }
        if decoder is not None
        else None,
        instructions=config.instructions,
        skip={"share": config.skip.share, "columns": kept[1].width} if config.skip and kept else None,
        towers=plans or None,
        featurizer=featurizer.spec,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = RecDistillStudent(full, decoder=decoder, trained={m: getattr(towers, m).trained for m in tuned})
    student.featurizer.load_state_dict(featurizer.state_dict())
    if kept is not None and isinstance(student.body, Skip):
        student.body.weight.copy_(kept[0])
        student.body.content.load_state_dict(kept[1].state_dict())
    if config.instructions:
        student.prompts = prompt_features(featurizer, towers, list(config.instructions.values()))
    return student


def _plan(tower: HuggingFaceText | NetworkTower, config: StudentConfig, how: Tuning, modality: str) -> dict[str, Any]:
    plan = plan_tuning(
        tower.network, tower.sample(), how=how, rank=config.lora_rank, alpha=config.lora_alpha, modality=modality
    )
    return {"architecture": tower.network.architecture, "plan": plan}
