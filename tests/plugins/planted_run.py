"""A run folder as the examples read it, of a planted world whose student knows the users' taste."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from downstream_helpers import World, planted_world

from recdistill.contracts.fold import Fold


def planted_run(root: Path, *, users: int = 240) -> World:
    """``split/time`` and the selection fit's student: taste and some noise."""
    world = planted_world(root / "world", users=users)
    noise = np.random.default_rng(1).standard_normal(world.taste.shape) * 0.1
    (root / "split").mkdir()
    world.fold.root.rename(root / "split" / "time")
    moved = World(root, Fold(root / "split" / "time"), world.taste)
    moved.write_embedding("seed-0/time/distill/selection/student.parquet", world.taste + noise, geometry="cosine")
    return moved
