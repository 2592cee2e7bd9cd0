"""The part of a student that is trained: from features to vectors, as the configuration says.

Shapes: B items, T tokens, W a modality's width, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from recdistill.students.configuration import RecDistillStudentConfig
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.fusers import Decoder, empty_decoder
from recdistill.students.fusion import FusionStudent
from recdistill.students.hiding import drop_fields
from recdistill.students.linear import LinearStudent
from recdistill.students.prompts import PROMPT, Prompt
from recdistill.students.skip import Skip

Body = FusionStudent | LinearStudent | Skip


def build_body(config: RecDistillStudentConfig, featurizer: Featurizer, decoder: PreTrainedModel | None) -> Body:
    """The linear or the fusing kind, perhaps with a skip connection around it.

    Args:
        decoder: the fuser with its pretrained weights; None: as configured, if it is, with weights to be loaded.
    """
    if config.skip is None:
        return _learned(config, featurizer, decoder, dim=config.dim)
    modalities = config.modalities or ()
    widths = {m: featurizer.widths[m] for m in modalities if m not in (config.towers or {})}
    columns: int = config.skip["columns"]
    learned = _learned(config, featurizer, decoder, dim=config.dim - columns)
    reduced = columns if columns < sum(widths.values()) else None
    return Skip(learned, modalities=modalities, widths=widths, columns=reduced, share=config.skip["share"])


def _learned(
    config: RecDistillStudentConfig, featurizer: Featurizer, decoder: PreTrainedModel | None, *, dim: int
) -> FusionStudent | LinearStudent:
    widths = {m: featurizer.widths[m] for m in config.modalities or ()}
    prompt_width = featurizer.widths["text"] if config.instructions else None
    if config.kind != "fusion":
        return LinearStudent(widths=widths, dim=dim, dropout=config.feature_dropout, prompt_width=prompt_width)
    fuser = None
    if config.fuser is not None:
        model = decoder if decoder is not None else empty_decoder(config.fuser["architecture"])
        fuser = Decoder(
            model, training=config.fuser["training"], rank=config.fuser["rank"], alpha=config.fuser["alpha"]
        )
    return FusionStudent(
        widths=widths,
        dim=dim,
        width=config.fusion_width,
        depth=config.fusion_depth,
        heads=config.fusion_heads,
        queries=config.fusion_queries,
        dropout=config.feature_dropout,
        causal=config.attention == "causal",
        places=featurizer.tokens,
        decoder=fuser,
        prompt_width=prompt_width,
    )


def read_batch(
    featurizer: Featurizer,
    modalities: Sequence[str],
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    field_dropout: float,
) -> tuple[dict[str, Tensor], Tensor, Prompt | None]:
    """A batch as a body takes it, with zeros for modalities that it leaves out.

    Args:
        field_dropout: chance that a field is dropped.

    Returns:
        modality → [B, T, W], [B, M] bool whether the items have it, and the instruction.
    """
    size = len(next(iter(features.values())))
    device = next(featurizer.buffers()).device
    given, masks = dict(features), []
    for modality in modalities:
        if modality in features:
            masks.append(present[modality])
        else:
            masks.append(torch.zeros(size, dtype=torch.bool, device=device))
            shape = (size, featurizer.tokens[modality], featurizer.widths[modality])
            given[modality] = torch.zeros(shape, device=device)
        if field_dropout and featurizer.has_fields(modality):
            given[modality] = drop_fields(given[modality], chance=field_dropout)
    prompt = (features[PROMPT], present[PROMPT]) if PROMPT in features else None
    return given, torch.stack(masks, dim=1), prompt
