"""What a phase trains: the student, each dataset's temperature, and the gate of late fusion.

Shapes: B rows, d student width, S subsets of modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.objectives.cached import encode_cached
from recdistill.objectives.late_fusion import LateFusionGate
from recdistill.pretrain.temperatures import Temperatures
from recdistill.students import RecDistillStudent
from recdistill.students.source import Features

Subset = tuple[str, ...]


class Trainee(nn.Module):
    """One module, so that data parallelism sees every parameter that learns."""

    def __init__(self, student: RecDistillStudent, temperatures: Temperatures, gate: LateFusionGate | None) -> None:
        super().__init__()
        self.student, self.temperatures, self.gate = student, temperatures, gate

    def forward(
        self,
        features: Features,
        present: Mapping[str, Tensor],
        *,
        subsets: Sequence[Subset] = (),
        chunk: int | None = None,
    ) -> Tensor:
        """[B, 1 + S, d]: the whole vector, then those of the subsets.

        Args:
            chunk: rows encoded with their activations at one time; None: all.
        """

        def encode(rows: slice) -> tuple[Tensor]:
            given = self.student.through_towers({m: values[rows] for m, values in features.items()})
            there = {m: mask[rows] for m, mask in present.items()}
            whole = self.student(given, there)[:, None]
            if subsets:
                views, _ = self.student.views(given, there, subsets)
                whole = torch.cat([whole, views.transpose(0, 1)], dim=1)
            return (whole,)

        size = len(next(iter(present.values())))
        if chunk is None:
            (vectors,) = encode(slice(None))
        else:
            (vectors,) = encode_cached(encode, [slice(at, at + chunk) for at in range(0, size, chunk)])
        # What learns from the losses alone takes part here too: a parameter that a rank's backward leaves out would
        # keep the others waiting.
        others = [parameter.sum() for part in (self.temperatures, self.gate) if part for parameter in part.parameters()]
        anchored: Tensor = vectors + 0.0 * torch.stack(others).sum()
        return anchored
