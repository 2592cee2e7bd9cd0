"""Real processes that train together over gloo, started as torchrun starts them.

They are forks of one process that has done nothing but import torchrec, which takes longer than most tests.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from recdistill.world import World


def launch(work: Callable[[World, Path], None], size: int, folder: Path) -> None:
    """Run ``work(world, folder)``, a function of a module's top level, on each of ``size`` ranks of one thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.get_context("forkserver").set_forkserver_preload(["recdistill.teachers.tables", "recdistill.training"])
    mp.start_processes(_rank, args=(work, size, port, folder), nprocs=size, start_method="forkserver")


def _rank(rank: int, work: Callable[[World, Path], None], size: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    variables: dict[str, Any] = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    with World.joined() as world:
        work(world, folder)
