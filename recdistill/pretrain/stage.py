"""The ``pretrain`` stage: pair datasets and content features → a student that knows content, and its item vectors.

Memory: the catalogue's features (4 · N · Σ tokens · width bytes, N items and texts), the pairs (28 + 8 · H bytes each,
H hard negatives a query), a batch's vectors; while mining, 4 · N · d bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from recdistill.checkpoint import remove
from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import write_json
from recdistill.errors import UserError
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import Pretraining
from recdistill.students import StudentConfig
from recdistill.training import LogFn
from recdistill.world import World


def pretrain(
    config: PretrainConfig,
    student: StudentConfig,
    *,
    fold: Fold,
    data: Path,
    content: Path,
    pairs: Path,
    out: Path,
    cache: Path | None,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
    world: World = World(),
) -> None:
    """Write ``out/<fit>/pretrained_student`` (a model), the catalogue's vectors beside it, and ``out/pretrain.json``.

    The selection fit trains each phase up to the step that validates best, by the mean over the phase's datasets of
    their held-out pairs' NDCG at 50; the final fit repeats the phases on its own pairs for as many steps.

    Args:
        data: folder with the canonical ``items`` and ``media`` tables, which tuned towers read.
        content: folder of the ``encode`` stage; pairs: folder of the ``pair`` stage, with ``<fit>/``.
        cache: folder of cached features, for texts that are no items'; None: the default one.
        key: fingerprint that a checkpoint must carry to be resumed.
        log: gives the curve of a name.
        world: the processes that train together.

    Raises:
        UserError: a phase names a dataset that is not there, or all of its datasets are empty; or the batch cannot be
            shared evenly among the processes.
        Diverged: a loss is not finite; the batch is named.
    """
    if config.batch_size % world.size:
        raise UserError(
            f"pretrain.batch_size ({config.batch_size}) is no multiple of the {world.size} processes",
            remedy="choose one that is",
        )
    about: dict[str, dict[str, Any]] = {phase.name: {} for phase in config.phases}
    kept: list[Path] = []
    for of in FITS:
        training = Pretraining(
            config,
            student,
            fold=fold,
            data=data,
            content=content,
            pairs=pairs / of,
            cache=cache,
            of=of,
            seed=seed,
            world=world,
        )
        for phase in config.phases:
            name, mine = f"{of}-{phase.name}", about[phase.name]
            kept.append(out / f".{name}.checkpoint")
            fitted, datasets = training.run(phase, kept[-1], f"{key}/{name}", log(name), steps=mine.get("steps"))
            if of == "selection":
                score = None if math.isnan(fitted.best_score) else fitted.best_score
                mine |= {"steps": fitted.best_step, "validation_ndcg_at_50": score}
            mine[of] = datasets
        world.first(partial(training.write, out / of))
    if world.leads:
        write_json({"phases": about}, out / "pretrain.json")
    for checkpoint in kept:  # not before: without those of the selection, a resumed final fit would repeat it
        remove(checkpoint, world=world)
