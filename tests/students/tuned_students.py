"""Small students with tuned towers, and a few steps of training."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from tiny_world import World
from torch import Tensor, nn

from recdistill.objectives.infonce import infonce
from recdistill.students import FeatureSource, RecDistillStudent, StudentConfig, feature_source
from recdistill.students.tuning import parameter_groups

SMALL: dict[str, Any] = {"skip": None, "dim": 12, "width": 16, "heads": 2, "depth": 1, "queries": 3, "prefixes": ()}
TUNED = ("audio", "image", "text")


def settings(how: str, *modalities: str, **other: Any) -> StudentConfig:
    return StudentConfig.model_validate({**SMALL, "tuning": dict.fromkeys(modalities, how), "lora_rank": 2, **other})


def source_of(config: StudentConfig, world: World) -> FeatureSource:
    return feature_source(config, content=world.content, data=world.data, item_ids=pd.Index(world.ids))


def train(student: RecDistillStudent, source: FeatureSource, *, steps: int) -> list[float]:
    """Contrast two views of the items: losses of the steps."""
    student.train()
    groups = parameter_groups(student, student.tuned, learning_rate=0.01, share=0.1)
    optimizer, losses = torch.optim.AdamW(groups), []
    for step in range(steps):
        torch.manual_seed(step)
        _, present = source.batch(slice(0, len(source)))
        some = torch.stack([present[modality] for modality in student.modalities]).any(0).nonzero()[:, 0]
        rows = some[torch.randperm(len(some))[:16]]
        source.prefetch(rows)
        features, present = source.batch(rows)
        views = [student(features, present) for _ in range(2)]
        loss = infonce(*views, torch.arange(len(rows)), temperature=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    student.eval()
    return losses


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
