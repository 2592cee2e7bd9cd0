"""Several processes of one command (``torchrun … -m recdistill …``): one leads, the others join it to train.

The leader runs the whole flow; the stages teach and pretrain alone are done together. A follower waits for the next
job, takes it with the settings that it read itself, and ends when it is dismissed; if the leader dies, torchrun ends
the others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recdistill.config import Recipe
from recdistill.contracts.fold import Fold
from recdistill.errors import UserError
from recdistill.pretrain import pretrain
from recdistill.teachers import teach
from recdistill.training import LogFn
from recdistill.world import World

Job = dict[str, str | int]


class Crew:
    """The processes that train a recipe's models together; without a world, this one alone."""

    def __init__(self, recipe: Recipe, world: World | None = None) -> None:
        self._recipe, self._world = recipe, world or World()
        self._at_work = False

    def teach(self, *, fold: Fold, items: Path, out: Path, seed: int, key: str, log: Callable[[str], LogFn]) -> None:
        """Lead a teach stage; arguments and errors as of :func:`recdistill.teachers.teach`."""
        job: Job = {"stage": "teach", "fold": str(fold.root), "items": str(items)}
        self._lead({**job, "out": str(out), "seed": seed, "key": key}, log)

    def pretrain(
        self,
        *,
        fold: Fold,
        data: Path,
        content: Path,
        pairs: Path,
        out: Path,
        seed: int,
        key: str,
        log: Callable[[str], LogFn],
    ) -> None:
        """Lead a pretrain stage; arguments and errors as of :func:`recdistill.pretrain.pretrain`."""
        job: Job = {"stage": "pretrain", "fold": str(fold.root), "data": str(data), "content": str(content)}
        self._lead({**job, "pairs": str(pairs), "out": str(out), "seed": seed, "key": key}, log)

    def _lead(self, job: Job, log: Callable[[str], LogFn]) -> None:
        self._world.agree(job)
        self._at_work = True
        try:
            self._do(job, log)
        except UserError:  # every rank raises it
            self._at_work = False
            raise
        self._at_work = False

    def dismiss(self) -> None:
        """Let the followers end. In the midst of a stage that broke they do not listen: torchrun ends them."""
        if not self._at_work:
            self._world.agree(None)
            self._world.barrier()

    def follow(self) -> None:
        """Take the leader's jobs until dismissed; what is wrong with one, the leader tells."""
        while (job := self._world.agree(None)) is not None:
            with suppress(UserError):
                self._do(job, lambda curve: lambda metrics, step: None)
        self._world.barrier()

    def _do(self, job: Job, log: Callable[[str], LogFn]) -> None:
        fold, out = Fold(Path(str(job["fold"]))), Path(str(job["out"]))
        seed, key = int(job["seed"]), str(job["key"])
        if job["stage"] == "teach":
            teach(
                self._recipe.teachers,
                self._recipe.questions(),
                fold=fold,
                items=Path(str(job["items"])),
                out=out,
                seed=seed,
                key=key,
                log=log,
                world=self._world,
            )
        elif self._recipe.pretrain is not None:
            data, content, pairs = (Path(str(job[name])) for name in ("data", "content", "pairs"))
            pretrain(
                self._recipe.pretrain,
                self._recipe.student,
                fold=fold,
                data=data,
                content=content,
                pairs=pairs,
                cache=self._recipe.encoders.cache,
                out=out,
                seed=seed,
                key=key,
                log=log,
                world=self._world,
            )
