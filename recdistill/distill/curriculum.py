"""Which objectives a step has: all from first to last, or phase by phase (SAIL-Embedding, 2510.12709, 3.3.1, 3.3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from recdistill.distill.config import Trial


class Curriculum:
    """A trial's objectives over the steps of its schedule.

    Args:
        names: objectives with weight.
        steps: of the whole schedule, however early a training ends.
    """

    def __init__(self, trial: Trial, names: Sequence[str], *, steps: int) -> None:
        self._all, self._phases = tuple(names), []
        share = 0.0
        for phase in trial.phases:
            share += phase.share
            self._phases.append((round(share * steps), tuple(name for name in names if name in phase.objectives)))

    def at(self, step: int) -> tuple[str, ...]:
        """Names of the step's objectives, in their order."""
        for end, names in self._phases[:-1]:
            if step < end:
                return names
        return self._phases[-1][1] if self._phases else self._all
