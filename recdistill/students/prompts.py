"""Instructions: a prompt that names the task or the side, as the featurizer's text features (METHOD 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recdistill.students.content import Block
from recdistill.students.encoders.towers import Towers
from recdistill.students.featurizer.featurizer import Featurizer
from recdistill.students.source import Features
from recdistill.students.text import clean

PROMPT = "instruction"
Prompt = tuple[Tensor, Tensor]  # features [B, T, w], and [B] bool: which items have one


def prompt_features(featurizer: Featurizer, towers: Towers, prompts: Sequence[str]) -> Tensor:
    """[n, 1, w] features of n prompts, each as if it were an item's only text."""
    cleaned = [clean(prompt) for prompt in prompts]
    device = next(featurizer.buffers()).device
    with torch.no_grad():
        return featurizer.text(torch.from_numpy(towers.text.encode(cleaned)).to(device), Block.of_texts(cleaned))


def with_prompt(
    features: Features, present: Mapping[str, Tensor], prompt: Tensor
) -> tuple[Features, Mapping[str, Tensor]]:
    """A batch all of whose items have the instruction of [1, T, w] features."""
    size = len(next(iter(features.values())))
    there = torch.ones(size, dtype=torch.bool, device=prompt.device)
    return {**features, PROMPT: prompt.expand(size, -1, -1)}, {**present, PROMPT: there}
