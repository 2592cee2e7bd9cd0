"""A training loop that can be killed at any step and, resumed, ends with the same numbers.

Every step seeds the global generator from (seed, step), and the caller draws its batch from the step's
number, so nothing random has to be saved: a checkpoint is the state of the objects and the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from recdistill.contracts.tables import atomic
from recdistill.errors import Diverged
from recdistill.progress import track

# Batches and dropout draw from different streams: of one seed both generators would give the same numbers.
_OF_BATCHES = 0x5DEECE66D

LogFn = Callable[[Mapping[str, float], int], None]


class Stateful(Protocol):
    """Modules, optimizers, and whatever else gives and takes its state as plain tensors."""

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
) -> Fitted:
    """Run ``step(0) … step(steps - 1)``, resuming from ``checkpoint`` if it belongs to ``key``.

    Args:
        step: does one whole step (batch, loss, backward, optimizer) and returns its losses, ``loss`` among them.
        state: everything that a step changes, by name.
        checkpoint: file to resume from; removed when training ends.
        key: fingerprint of settings and data; a checkpoint of another key is ignored.
        validate: score of the current state, higher is better; the best state is restored at the end.
        patience: stop after so many validations without a better score (0: never).
        log: called with losses and the step number.

    Raises:
        Diverged: a loss is not finite.
    """
    result = Fitted(steps=0, best_step=0)
    best: dict[str, Any] | None = None
    saved = _load(checkpoint, key)
    if saved is not None:
        for name, part in state.items():
            part.load_state_dict(saved["state"][name])
        best = saved["best"]
        result = Fitted(saved["step"], saved["best_step"], saved["best_score"], [tuple(p) for p in saved["curve"]])
    last_saved = time.monotonic()
    since_best = sum(1 for at, _ in result.curve if at > result.best_step)
    with track(description, steps) as advance:
        advance(result.steps)
        while result.steps < steps and not (patience and since_best >= patience):
            torch.manual_seed(_mix(seed, result.steps))
            losses = {name: float(value) for name, value in step(result.steps).items()}
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise Diverged(
                    f"{description}: {', '.join(bad)} is not finite at step {result.steps} (seed {seed})",
                    remedy="lower the learning rate or raise the temperature; the batch is drawn from (seed, step)",
                )
            if result.steps % log_every == 0:
                log(losses, result.steps)
            result.steps += 1
            advance(1)
            if (
                validate is not None
                and validate_every
                and (result.steps % validate_every == 0 or result.steps == steps)
            ):
                score = validate()
                log({"validation": score}, result.steps)
                result.curve.append((result.steps, score))
                since_best += 1
                if best is None or score > result.best_score:
                    best, since_best = _copy(state), 0
                    result.best_step, result.best_score = result.steps, score
            if time.monotonic() - last_saved >= checkpoint_seconds:
                _save(checkpoint, key, state, best, result)
                last_saved = time.monotonic()
    if best is not None:
        for name, part in state.items():
            part.load_state_dict(best[name])
    else:
        result.best_step = result.steps
    checkpoint.unlink(missing_ok=True)
    return result


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) * 2_654_435_761 % (2**63)


def _copy(state: Mapping[str, Stateful]) -> dict[str, Any]:
    def clone(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().clone()
        if isinstance(value, dict):
            return {name: clone(part) for name, part in value.items()}
        if isinstance(value, list):
            return [clone(part) for part in value]
        return value

    return {name: clone(part.state_dict()) for name, part in state.items()}


def _save(path: Path, key: str, state: Mapping[str, Stateful], best: dict[str, Any] | None, result: Fitted) -> None:
    with atomic(path) as temporary:
        torch.save(
            {
                "key": key,
                "state": {name: part.state_dict() for name, part in state.items()},
                "best": best,
                "step": result.steps,
                "best_step": result.best_step,
                "best_score": result.best_score,
                "curve": [list(point) for point in result.curve],
            },
            temporary,
        )


def _load(path: Path, key: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved if saved["key"] == key else None
