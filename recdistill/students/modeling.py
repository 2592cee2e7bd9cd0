"""The student as a ``transformers`` model: features in training, raw items in use.

Shapes: B items, T tokens, W a modality's width, M modalities, d the student's width.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from recdistill.errors import UserError
from recdistill.students.body import build_body, read_batch
from recdistill.students.config import MODALITIES
from recdistill.students.configuration import RecDistillStudentConfig
from recdistill.students.content import NewItems
from recdistill.students.encoders.network import Trained
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.hiding import hide_modalities
from recdistill.students.prompts import Prompt, with_prompt
from recdistill.students.reading import check_readable, read_items
from recdistill.students.source import Features, FeatureSource
from recdistill.students.store import FeatureStore
from recdistill.students.tuned import TunedTowers

_BATCH, _RAW_BATCH = 4096, 64  # items; pictures of a batch are in memory, and of the next


class RecDistillStudent(PreTrainedModel):
    """Places an item by its content.

    ``save_pretrained`` keeps the featurizer, the frozen towers' names and not their weights, and tuned towers whole.
    """

    config_class = RecDistillStudentConfig
    main_input_name = "features"
    base_model_prefix = ""
    supports_gradient_checkpointing = True  # of the fusing kind, and of tuned towers
    prompts: Tensor | None

    def __init__(
        self,
        config: RecDistillStudentConfig,
        *,
        decoder: PreTrainedModel | None = None,
        trained: Mapping[str, Trained] | None = None,
    ) -> None:
        """As configured, with weights to be loaded.

        Args:
            decoder: the fuser with its pretrained weights.
            trained: the tuned towers with theirs.

        Raises:
            UserError: the configuration is of a format that is not read (any more).
        """
        super().__init__(config)
        config.check_format()
        if config.featurizer is None or not config.modalities:
            raise ValueError("a student is built with build_student, or loaded with from_pretrained")
        self.featurizer = Featurizer(config.featurizer)
        self.modalities = tuple(config.modalities)
        prompts = None
        if config.instructions:  # their features are kept, so that a loaded student needs no tower for them
            prompts = torch.zeros(len(config.instructions), 1, self.featurizer.widths["text"])
        self.register_buffer("prompts", prompts)
        self.body = build_body(config, self.featurizer, decoder)
        if decoder is not None:
            for module in decoder.modules():
                cast(Any, module)._is_hf_initialized = True  # or post_init would draw its weights anew
        self.tuned = TunedTowers(config.towers or {}, self.featurizer.encoders, given=trained)
        self._towers: Towers | None = None
        self.post_init()

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Widths that serve, ascending; the full width is the last."""
        return (*sorted({width for width in self.config.prefixes or () if width < self.config.dim}), self.config.dim)

    @property
    def rows_at_once(self) -> int:
        """Items that are encoded at one time without gradients; fewer where the batch holds pictures and sounds."""
        return _RAW_BATCH if self.config.towers else _BATCH

    def forward(self, features: Features, present: Mapping[str, Tensor]) -> Tensor:
        """Vectors of items given as features; what :meth:`FeatureSource.batch` returns.

        In training, present modalities are hidden at random, never all of an item's, and fields of those left.

        Args:
            features: modality → [B, T, W], or raw units where the tower is tuned; what the student does not read is
                ignored, what is left out is missing. Under "instruction" the features of a prompt
                (:meth:`instruction`), if the items have one.
            present: modality → [B] bool. What an absent modality holds has no influence.

        Returns:
            [B, d], not normalised; with a skip connection each part has a fixed length, and the whole length 1.
        """
        given, there, prompt = self._read(features, present)
        if self.training and self.config.modality_dropout:
            there = hide_modalities(there, chance=self.config.modality_dropout)
        vectors: Tensor = self.body(given, there, prompt)
        return vectors

    def views(
        self, features: Features, present: Mapping[str, Tensor], subsets: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """Vectors that subsets of the modalities give, of which :meth:`forward` would see nothing else.

        In training no modality is hidden beyond that, while fields are dropped; an item's views share one draw.

        Args:
            features, present: as of :meth:`forward`; an instruction is in every view.
            subsets: S of names of modalities.

        Returns:
            [S, B, d] as of :meth:`forward`; [S, B] bool, whether the item has any modality of the subset. Where not,
            the vector is that of an item of which nothing is known.

        Raises:
            ValueError: there is no such modality.
        """
        unknown = {name for subset in subsets for name in subset} - set(MODALITIES)
        if unknown:
            raise ValueError(f"no such modality: {', '.join(sorted(unknown))}")
        given, there, prompt = self._read(features, present)
        member = torch.tensor([[m in subset for m in self.modalities] for subset in subsets], device=there.device)
        return self.body.views(given, there, member, prompt), (there & member[:, None]).any(-1)

    def through_towers(self, features: Features) -> dict[str, Tensor]:
        """A batch's features with those of tuned towers computed, for several calls that are to share them."""
        found: dict[str, Tensor] = self.tuned(features, self.featurizer, reads=self.modalities)
        return found

    def _read(
        self, features: Features, present: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Prompt | None]:
        dropout = self.config.field_dropout if self.training else 0.0
        values = self.through_towers(features)
        return read_batch(self.featurizer, self.modalities, values, present, field_dropout=dropout)

    def instruction(self, name: str) -> Tensor:
        """[1, T, w] features of the instruction of that name, for "instruction" in :meth:`forward`'s.

        Raises:
            UserError: the student has no such instruction.
        """
        known = list(self.config.instructions or ())
        if name not in known or self.prompts is None:
            raise UserError(
                f"the student knows no instruction '{name}' (known: {', '.join(known) or 'none'})",
                remedy="name one of these, or train a student with that one under student.instructions",
            )
        return self.prompts[known.index(name), None]

    @torch.inference_mode()
    def encode_store(
        self,
        store: FeatureSource,
        *,
        batch_size: int | None = None,
        normalize: bool = True,
        instruction: str | None = None,
    ) -> np.ndarray:
        """[I, d] float32 vectors of a whole catalogue, as :meth:`encode` gives them for the same items.

        Args:
            batch_size: items at once; None: 4096, or 64 where towers are tuned. No vector depends on it (1e-5).
            normalize, instruction: as of :meth:`encode`.

        Raises:
            ValueError: a tower is tuned, and the store is of frozen ones.
        """
        if self.config.towers and isinstance(store, FeatureStore):
            raise ValueError("the store has a frozen tower's features, where this student's own is tuned")
        size = batch_size or self.rows_at_once
        blocks = [slice(row, row + size) for row in range(0, len(store), size)]
        parts = []
        with _evaluating(self):
            for block, following in zip(blocks, [*blocks[1:], None], strict=True):
                features, present = store.batch(block)
                if following is not None:
                    store.prefetch(following)
                parts.append(self(*self._instructed(features, present, instruction)))
        return _finish(parts, self.config.dim, normalize=normalize)

    @torch.inference_mode()
    def encode(
        self,
        items: Sequence[Mapping[str, Any]],
        *,
        batch_size: int = 512,
        normalize: bool = True,
        instruction: str | None = None,
    ) -> np.ndarray:
        """Vectors of items that may never have been seen.

        Args:
            items: dicts with any non-empty subset of ``text`` (field → string), ``image`` (path, bytes or PIL image, or
                a list of them), ``audio`` (path, bytes or (waveform, rate), or a list) and ``structured`` (field →
                value or list of values). A picture or sound that cannot be read is warned of and counts as missing.
            batch_size: items in memory at once. An item's vector depends neither on it nor on other items (1e-5).
            normalize: scale to norm 1, for cosine; else as :meth:`forward` gives them.
            instruction: name of one of the student's instructions: what the vectors are for. None gives none.

        Returns:
            [n, d] float32.

        Raises:
            UserError: an item is empty, has an unknown key or field or a value of the wrong type, or has nothing that
                the student reads; the message names it by index. Or the student knows no such instruction.
        """
        new = NewItems.parse(items, self.featurizer.fields, text_places=self.featurizer.text_places)
        check_readable(new, self.modalities)
        parts = []
        with _evaluating(self):
            for start in range(0, len(items), batch_size):
                rows = np.arange(start, min(start + batch_size, len(items)))
                features, present = read_items(new, rows, self.featurizer, self.towers, self.modalities)
                parts.append(self(*self._instructed(features, present, instruction)))
        return _finish(parts, self.config.dim, normalize=normalize)

    def _instructed(
        self, features: Features, present: Mapping[str, Tensor], instruction: str | None
    ) -> tuple[Features, Mapping[str, Tensor]]:
        if instruction is None:
            return features, present
        return with_prompt(features, present, self.instruction(instruction))

    @property
    def towers(self) -> Towers:
        """The encoders, loaded by name when they are first needed, but for tuned ones."""
        if self._towers is None:
            self._towers = Towers(
                self.featurizer.encoders,
                expected=self.featurizer.spec["identities"],
                trained=self.tuned.trained(str(self.name_or_path)),
            )
        return self._towers

    def save_pretrained(self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        """As every transformers model (whose arguments these are); and what tuned towers need beside their weights."""
        self.tuned.save_settings(Path(save_directory), home=str(self.name_or_path))
        super().save_pretrained(save_directory, *arguments, **options)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the modules' own initialisation stands."""


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _finish(parts: Sequence[Tensor], dim: int, *, normalize: bool) -> np.ndarray:
    vectors = torch.cat(list(parts)).float() if parts else torch.zeros(0, dim)
    if normalize:
        vectors = nn.functional.normalize(vectors, dim=-1)
    return vectors.cpu().numpy()
