"""Teachers at two ranks: a step is that of one process, also where a rank has no user of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ranks import launch

from recdistill.teachers.build import Teacher, build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.positives import InMemory, Positives
from recdistill.world import World

USERS, LENGTH, ITEMS = 30, 9, 40
COMMON: dict[str, Any] = {"dim": 8, "batch": 9}
SAMPLED: dict[str, Any] = {"full_softmax_up_to": 0, "negatives": 8}
ID = (
    {}, SAMPLED, {"loss": "bpr", "geometry": "dot"}, {"user_form": "table", "l2": 0.1, **SAMPLED},
    {"l2": 0.1}, {"batch": 1, **SAMPLED},
)  # fmt: skip
SEQUENCE = (
    {}, SAMPLED, {"block": "sasrec", "eras": 0}, {"l2": 0.1, **SAMPLED}, {"batch": 1}, {"batch": 1, "block": "sasrec"},
    {"loss": "gbce", "geometry": "dot", **SAMPLED},
)  # fmt: skip


def users() -> InMemory:
    generator = torch.Generator().manual_seed(1)
    item = torch.stack([torch.randperm(ITEMS, generator=generator)[:LENGTH] for _ in range(USERS)]).flatten()
    positives = Positives(
        item_ids=pd.RangeIndex(ITEMS),
        user_ids=pd.RangeIndex(USERS),
        item=item,
        behaviours=torch.ones(len(item)),
        time=torch.arange(len(item)) * 1_000_000,
        starts=torch.arange(0, len(item) + 1, LENGTH),
        support=torch.bincount(item, minlength=ITEMS),
    )
    return InMemory(positives, power=0.5)


def teachers(world: World) -> list[Teacher]:
    """One of each kind; tables row by row and whole in turn."""
    built: list[Teacher] = []
    for at, settings in enumerate(ID):
        config = IdTeacherConfig(**COMMON | settings)
        built.append(
            build_id_teacher(config, users(), seed=0, world=world, sharding=("row_wise", "table_wise")[at % 2])
        )
    for at, settings in enumerate(SEQUENCE):
        sequence = SequenceTeacherConfig(**COMMON | settings)
        built.append(
            build_sequence_teacher(sequence, users(), seed=0, world=world, sharding=("row_wise", "table_wise")[at % 2])
        )
    return built


def work(world: World, folder: Path) -> None:
    after = []
    for teacher in teachers(world):
        torch.manual_seed(3)  # of dropout, alike on all ranks
        teacher.step(0)
        after.append(teacher.vectors().numpy())
        model = teacher.state.get("model")
        if isinstance(model, torch.nn.Module):
            # Gradients: Adam's first step is their sign alone, which rounding decides where they are all but zero.
            gradients = [values.grad.flatten() for values in model.parameters() if values.grad is not None]
            after.append(torch.cat(gradients).numpy())
    if world.leads:
        np.savez(folder / f"{world.size}.npz", *after)
    world.barrier()


def test_a_step_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    launch(work, 2, tmp_path)
    work(World(), tmp_path)
    one, two = (np.load(tmp_path / f"{size}.npz") for size in (1, 2))
    assert len(one.files) == len(ID) + 2 * len(SEQUENCE)
    settings = [*ID, *(each for each in SEQUENCE for _ in range(2))]
    for name, of in zip(one.files, settings, strict=True):
        assert np.abs(one[name] - two[name]).max() < 1e-6, of
