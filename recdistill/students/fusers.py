"""What mixes an item's tokens: a small Transformer, or any Hugging Face decoder, each of them bidirectional or causal.

A fuser takes ``(tokens [B, S, D], there [B, S] bool, places [S] int64)`` and gives [B, S, D]; at least one token of a
row is there, and what the others hold has no influence on it. SAIL-Embedding (arXiv 2510.12709, 3.2) finds a
bidirectional LLM the best.

Shapes: B items, S tokens, D width.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from recdistill.errors import UserError
from recdistill.students.encoders.source import find_model, loading

FuserTraining = Literal["full", "lora", "frozen"]
_ARGUMENTS = {"inputs_embeds", "attention_mask", "position_ids", "use_cache"}
BRANCH_SCALE = 0.1
_REMEDY = "name a decoder such as Qwen3, Llama or Mistral as student.fuser, or leave it out for the small Transformer"


class Block(nn.TransformerEncoderLayer):
    """A pre-norm Transformer block with dropout on its two branches alone.

    Within the attention it would rule out torch's fused kernel; within the feed-forward part, four times as wide, a CPU
    spent a fifth of a training step on drawing it.
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.heads = heads

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:  # type: ignore[override]
        """[B, S, D], and [B, 1, S or 1, S] bool, whether a token sees another → [B, S, D]."""
        projected = F.linear(self.norm1(tokens), self.self_attn.in_proj_weight, self.self_attn.in_proj_bias)
        query, key, value = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, seen).transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout1(self.self_attn.out_proj(attended))
        out: Tensor = tokens + self.dropout2(self.linear2(F.gelu(self.linear1(self.norm2(tokens)))))
        return out


class SmallTransformer(nn.Module):
    """Blocks without positions: the tokens carry what they are.

    The blocks' branches begin small, so that a token is at first nearly what came in.
    """

    def __init__(self, *, width: int, depth: int, heads: int, dropout: float, causal: bool = False) -> None:
        super().__init__()
        first = Block(width=width, heads=heads, dropout=dropout)
        with torch.no_grad():
            for weight in (first.self_attn.out_proj.weight, first.linear2.weight, first.linear2.bias):
                weight *= BRANCH_SCALE
        self.layers = nn.ModuleList(copy.deepcopy(first) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.causal = causal
        # Switched by PreTrainedModel.gradient_checkpointing_enable.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Tensor]

    def forward(self, tokens: Tensor, there: Tensor, places: Tensor) -> Tensor:
        """As in the module's docstring; places are of no interest."""
        seen = there[:, None, None]
        if self.causal:
            both = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=there.device).tril()
            # A token that is not there sees itself: a softmax over nothing could make it, and then all, NaN.
            seen = (seen & both) | torch.eye(len(both), dtype=torch.bool, device=there.device)
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                tokens = self._gradient_checkpointing_func(layer, tokens, seen)
            else:
                tokens = layer(tokens, seen)
        out: Tensor = self.norm(tokens)
        return out


class Decoder(nn.Module):
    """A Hugging Face decoder that reads embeddings; its vocabulary has been cut off."""

    def __init__(self, model: PreTrainedModel, *, training: FuserTraining, rank: int, alpha: float) -> None:
        super().__init__()
        model.get_input_embeddings().requires_grad_(False)
        if training == "lora":
            from peft import LoraConfig, inject_adapter_in_model

            scale = cast(int, alpha)  # any number
            adapters = LoraConfig(r=rank, lora_alpha=scale, target_modules="all-linear")
            inject_adapter_in_model(adapters, model)
        elif training == "frozen":
            model.requires_grad_(False)
        self.model = model
        self._frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]

    def train(self, mode: bool = True) -> Decoder:
        """Also freezes again what is not trained: ``from_pretrained`` ends with ``eval`` and has forgotten it."""
        for name in self._frozen:
            self.model.get_parameter(name).requires_grad_(False)
        return super().train(mode)

    @property
    def width(self) -> int:
        """Width of the embeddings that it reads."""
        return embedding_width(self.model)

    def forward(self, tokens: Tensor, there: Tensor, places: Tensor) -> Tensor:
        """As in the module's docstring; the places are its positions, wherever in the sequence a token stands."""
        out: Tensor = self.model(
            inputs_embeds=tokens,
            attention_mask=there.long(),
            position_ids=places.expand(len(tokens), -1),
            use_cache=False,
        ).last_hidden_state
        return out


def embedding_width(model: PreTrainedModel) -> int:
    """Width of the embeddings that a decoder reads."""
    return cast(nn.Embedding, model.get_input_embeddings()).embedding_dim


def load_decoder(name: str, *, causal: bool) -> PreTrainedModel:
    """The pretrained decoder of a Hugging Face name or folder, without its vocabulary, in float32.

    Raises:
        UserError: there is no such model, it does not read embeddings at given positions, or its attention is not what
            was asked for: some models ignore that a configuration is not causal.
    """
    from transformers import AutoConfig, AutoModel  # at first use: importing these imports the student (registration)

    folder = find_model(name)
    with loading(folder, "a decoder"):
        config = AutoConfig.from_pretrained(folder)
        # Before the model is built: set on built layers, it is silently ignored when a padding mask is given.
        config.is_causal = causal
        model = AutoModel.from_pretrained(folder, config=config, use_safetensors=True, dtype=torch.float32)
    if _ARGUMENTS - set(inspect.signature(model.forward).parameters):
        raise UserError(f"{name}: not a decoder that reads embeddings at given positions", remedy=_REMEDY)
    _cut_vocabulary(model)
    _check_attention(model, name, causal=causal)
    return model


def architecture_of(model: PreTrainedModel) -> dict[str, Any]:
    """What :func:`empty_decoder` needs, JSON-able; where the model came from is no part of it."""
    return {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}


def empty_decoder(config: dict[str, Any]) -> PreTrainedModel:
    """The decoder of an :func:`architecture_of` one; its weights are loaded later."""
    from transformers import AutoConfig, AutoModel

    settings = dict(config)
    return AutoModel.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.float32)


def _cut_vocabulary(model: PreTrainedModel) -> None:
    """Leave one word: the student gives embeddings, and a table that nothing reads would be saved with each student."""
    text = model.config.get_text_config()
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(text, name, None)  # no longer in the vocabulary
    model.resize_token_embeddings(1)


def _check_attention(model: PreTrainedModel, name: str, *, causal: bool) -> None:
    """Does a later token influence an earlier one, with padding and without?"""
    fuser = Decoder(model, training="full", rank=0, alpha=0).eval()
    generator = torch.Generator().manual_seed(0)
    for padding in (0, 1):
        tokens = torch.randn(1, 3 + padding, fuser.width, generator=generator) * 0.1
        tokens.requires_grad_()
        there = torch.tensor([[True] * 3 + [False] * padding])
        out = fuser(tokens, there, torch.arange(3 + padding))
        if out.shape != tokens.shape:
            raise UserError(f"{name}: the decoder's output is not of its input's width", remedy=_REMEDY)
        direction = torch.randn(fuser.width, generator=generator)  # not the norm, which the last layer keeps
        gradient = torch.autograd.grad(out[0, 0] @ direction, tokens)[0][0]
        if bool(gradient[2].any()) == causal or gradient[3:].any():
            raise UserError(
                f"{name}: its attention cannot be made {'causal' if causal else 'bidirectional'}", remedy=_REMEDY
            )
