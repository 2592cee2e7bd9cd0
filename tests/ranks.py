"""Real processes that train together over gloo, started as torchrun starts them.

They are forks of one process that has done nothing but import torchrec, which takes longer than most tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from recdistill.world import World


def launch(work: Callable[[World, Path], None], size: int, folder: Path) -> None:
    """Run ``work(world, folder)``, a function of a module's top level, on each of ``size`` ranks of one thread."""
    # As torchrun's agent does: the store where ranks meet is held here, on a port that nobody can take in between.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.get_context("forkserver").set_forkserver_preload(["recdistill.teachers.tables", "recdistill.training"])
    mp.start_processes(_rank, args=(work, size, store.port, folder), nprocs=size, start_method="forkserver")


def _rank(rank: int, work: Callable[[World, Path], None], size: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    variables: dict[str, Any] = {
        "RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }  # fmt: skip
    os.environ.update({name: str(value) for name, value in variables.items()})
    with World.joined() as world:
        work(world, folder)
