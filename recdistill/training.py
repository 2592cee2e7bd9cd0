"""A training loop that can be killed at any step and, resumed, ends with the same numbers.

Every step seeds the global generator from (seed, step), and the caller draws its batch from the step's
number, so nothing random has to be saved: a checkpoint is the state of the objects and the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from recdistill.checkpoint import Checkpoint, find, remove, save
from recdistill.errors import Diverged
from recdistill.progress import track
from recdistill.world import World

# Batches and dropout draw from different streams: of one seed both generators would give the same numbers.
_OF_BATCHES = 0x5DEECE66D

LogFn = Callable[[Mapping[str, float], int], None]


class Stateful(Protocol):
    """Modules, optimizers, and whatever else gives and takes its state as tensors (of several processes: sharded)."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass
class Fitted:
    """How a training ended.

    Attributes:
        steps: steps taken.
        best_step: the step whose state the objects now hold (``steps`` without validation).
        best_score: its validation score, NaN without validation.
        curve: (step, score) of every validation.
    """

    steps: int
    best_step: int
    best_score: float = math.nan
    curve: list[tuple[int, float]] = field(default_factory=list)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator from which step ``step`` draws its batch."""
    return torch.Generator().manual_seed(_mix(seed, step) ^ _OF_BATCHES)


def fit(
    step: Callable[[int], Mapping[str, float]],
    *,
    steps: int,
    seed: int,
    state: Mapping[str, Stateful],
    checkpoint: Path,
    key: str,
    description: str,
    log: LogFn,
    validate: Callable[[], float] | None = None,
    validate_every: int = 0,
    patience: int = 0,
    checkpoint_seconds: float = 20.0,
    log_every: int = 20,
    world: World = World(),
    keep: bool = False,
) -> Fitted:
    """Run ``step(0) … step(steps - 1)``, resuming from ``checkpoint`` if it belongs to ``key``.

    In several processes it is collective, draws alike on all ranks, and takes every decision on all of them alike:
    whether a loss is finite, whether to save, and what the score is. The checkpoint may come from another number of
    processes.

    Args:
        step: does one whole step (batch, loss, backward, optimizer) and returns its losses, ``loss`` among them;
            of several ranks' losses the mean is logged.
        state: everything that a step changes, by name.
        checkpoint: folder to resume from; removed when training ends.
        key: fingerprint of settings and data; a checkpoint of another key is ignored.
        validate: score of the current state, higher is better; the best state is restored at the end. Every rank
            calls it, and the leader's score counts.
        patience: stop after so many validations without a better score (0: never).
        log: called with losses and the step number, by the leader.
        world: the processes that train together.
        keep: leave a checkpoint of the end, from which another call gives the same at once: for who has yet to write
            what was learned, and calls :func:`recdistill.checkpoint.remove` then.

    Raises:
        Diverged: a loss is not finite.
    """
    result, best = Fitted(steps=0, best_step=0), None
    found = find(checkpoint, world=world)
    if found is not None and found.about["key"] == key:
        result, best = _resume(found, state)
        if found.about["ended"]:
            return result
    last_saved = time.monotonic()
    since_best = sum(1 for at, _ in result.curve if at > result.best_step)
    with track(description, steps) if world.leads else nullcontext(_unseen) as advance:
        advance(result.steps)
        while result.steps < steps and not (patience and since_best >= patience):
            torch.manual_seed(_mix(seed, result.steps))
            losses = _mean(step(result.steps), world)
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise Diverged(
                    f"{description}: {', '.join(bad)} is not finite at step {result.steps} (seed {seed})",
                    remedy="lower the learning rate or raise the temperature; the batch is drawn from (seed, step)",
                )
            if world.leads and result.steps % log_every == 0:
                log(losses, result.steps)
            result.steps += 1
            advance(1)
            if (
                validate is not None
                and validate_every
                and (result.steps % validate_every == 0 or result.steps == steps)
            ):
                score = world.agree(validate())
                if world.leads:
                    log({"validation": score}, result.steps)
                result.curve.append((result.steps, score))
                since_best += 1
                if best is None or score > result.best_score:
                    best, since_best = _copy(state, room=best), 0
                    result.best_step, result.best_score = result.steps, score
            if world.agree(time.monotonic() - last_saved >= checkpoint_seconds):
                _save(checkpoint, key, state, best, result, world, ended=False)
                last_saved = time.monotonic()
    if best is not None:
        for name, part in state.items():
            part.load_state_dict(best[name])
    else:
        result.best_step = result.steps
    if keep:
        _save(checkpoint, key, state, None, result, world, ended=True)
    else:
        remove(checkpoint, world=world)
    return result


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) * 2_654_435_761 % (2**63)


def _copy(state: Mapping[str, Stateful], *, room: dict[str, Any] | None = None) -> dict[str, Any]:
    """A copy of the objects' state, in the tensors of an earlier copy where they fit: two copies of a large table are
    never held."""

    def clone(value: Any, room: Any) -> Any:
        if isinstance(value, torch.Tensor):
            fits = isinstance(room, torch.Tensor) and room.shape == value.shape and room.dtype == value.dtype
            return _copied(value.detach(), room) if fits else value.detach().clone()
        if isinstance(value, dict):
            rooms = room if isinstance(room, dict) else {}
            return {name: clone(part, rooms.get(name)) for name, part in value.items()}
        if isinstance(value, list):
            parts = room if isinstance(room, list) and len(room) == len(value) else [None] * len(value)
            return [clone(part, place) for part, place in zip(value, parts, strict=True)]
        return value

    return {name: clone(part, (room or {}).get(name)) for name, part in _states(state).items()}


def _copied(value: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """``room``, filled with ``value``; of sharded tensors, this rank's shards."""
    if isinstance(value, ShardedTensor) and isinstance(room, ShardedTensor):
        for into, shard in zip(room.local_shards(), value.local_shards(), strict=True):
            into.tensor.copy_(shard.tensor)
    else:
        room.copy_(value)
    return room


def _mean(losses: Mapping[str, float], world: World) -> dict[str, float]:
    """The mean over the ranks, in which one rank's NaN or infinity is every rank's."""
    values = torch.tensor([float(value) for value in losses.values()], dtype=torch.float64)
    world.average_([values])
    return dict(zip(losses, values.tolist(), strict=True))


def _unseen(_: int) -> None:
    """Progress of a rank that does not lead."""


def _states(state: Mapping[str, Stateful]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in state.items()}


def _save(
    folder: Path,
    key: str,
    state: Mapping[str, Stateful],
    best: dict[str, Any] | None,
    result: Fitted,
    world: World,
    *,
    ended: bool,
) -> None:
    about = {"key": key, "best": best is not None, "result": asdict(result), "ended": ended}
    save(folder, {"state": _states(state), "best": best}, about=about, world=world)


def _resume(found: Checkpoint, state: Mapping[str, Stateful]) -> tuple[Fitted, dict[str, Any] | None]:
    """Load the objects' state; returns how far the training was, and its best state."""
    # The best state is spread over the ranks like the live one, of which a copy gives it room.
    room = _copy(state) if found.about["best"] else None
    saved = found.load({"state": _states(state), "best": room})
    for name, part in state.items():
        part.load_state_dict(saved["state"][name])
    result = Fitted(**found.about["result"])
    result.curve = [(step, score) for step, score in result.curve]
    return result, saved["best"]
