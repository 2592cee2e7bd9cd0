"""A Qwen3 of two layers with random weights, saved like a real one: with a vocabulary, and as a causal model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def tiny_qwen3(folder: Path, **changes: Any) -> Path:
    """Save it; its embeddings are 16 wide."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(2)
    settings = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 49,
        "initializer_range": 0.2,
    }
    Qwen3ForCausalLM(Qwen3Config(**{**settings, **changes})).save_pretrained(folder)
    return folder
