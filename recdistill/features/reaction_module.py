"""Reactions as one module: the batch, Spark and a service all call it, so the definition stands here alone.

Match features know what the user liked. Of what was met and *not* liked they know nothing, although a log with its own
negatives tells: a user who met twenty comedies and liked two is near many comedies. Here every past event counts, by
how it turned out.

Shapes: I items, d width, B users at once, H history rows, C candidates, K temperatures.

A user's history is the events strictly before the moment asked about, pleasing or not, ``last`` of them at most, the
newest; items without a vector are no part of it. ``reaction_1`` … ``reaction_K`` are kernel regressions of its
reactions at the candidate's place in the space (Nadaraya 1964, Watson 1964), one a temperature, in the settings' order:
for temperature t ``Σ w (y − ȳ) / (Σ w + w₀)``, with y 1 for an event that pleased and 0 for another, ȳ its mean over
those events, w = exp((cosine − 1) / t), and w₀ the weight of an event at cosine 0.5: little evidence gives little. What
the user does on average is taken out, so that vectors without meaning give numbers without meaning. NaN where nothing
can be compared (no vector of the candidate, or no history).

Cosines are the same bits everywhere (:mod:`recdistill.features.cosines`), sums are in float64 and differ by its
rounding alone, before all are given as float32.
"""

# No postponed annotations here: torch.jit.script reads them as they are.
import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recdistill.features.config import ReactionConfig
from recdistill.features.cosines import buffer_rows, cosines, newest, padded
from recdistill.features.match_module import MatchModule
from recdistill.features.space import Space

OF_TEMPERATURE = "reaction_"
_PRIOR_COSINE = 0.5


class ReactionModule(nn.Module):
    """The columns of candidates against histories, both given as rows of a catalogue.

    ``torch.export`` and ``torch.jit.script`` take it as they take
    :class:`recdistill.features.match_module.MatchModule`.

    Buffers: vectors [I + 1, d] float32, known [I + 1] bool (whether there is a vector); the last row is no item's.

    Memory of a call: B · H · 12 d + B · C · (12 d + 48 H) bytes.

    Args:
        vectors: [I + 1, d] float32 of length one, as :func:`recdistill.features.cosines.padded` gives them.
        known: [I + 1] bool.
    """

    __jit_unused_properties__ = ["columns"]  # noqa: RUF012
    vectors: Tensor
    known: Tensor

    def __init__(self, *, vectors: Tensor, known: Tensor, last: int, temperatures: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("known", known)
        self.last = last
        self.temperatures = list(temperatures)
        self.priors = [math.exp((_PRIOR_COSINE - 1) / temperature) for temperature in temperatures]

    @classmethod
    def of(cls, space: Space, config: ReactionConfig) -> Self:
        """The items of a space."""
        known = F.pad(torch.from_numpy(space.present.copy()), (0, 1), value=False)
        return cls(vectors=padded(space.vectors), known=known, last=config.last, temperatures=config.temperatures)

    @classmethod
    def beside(cls, match: MatchModule, config: ReactionConfig) -> Self:
        """The items of match features; the vectors are shared, in memory and in a saved program."""
        known = match.interest < match.interests
        return cls(vectors=match.vectors, known=known, last=config.last, temperatures=config.temperatures)

    @property
    def columns(self) -> tuple[str, ...]:
        """[K] names of the columns."""
        return tuple(f"{OF_TEMPERATURE}{at + 1}" for at in range(len(self.temperatures)))

    def forward(self, history: Tensor, age: Tensor, pleased: Tensor, candidates: Tensor) -> Tensor:
        """Columns of each user's candidates.

        Args:
            history: [B, H] int64 rows of the items that the user met, oldest first, of equal times the lower row first
                (of one item's the event that did not please); -1 pads, anywhere. More than ``last`` may be given.
            age: [B, H] days from each to the moment asked about; what is not older (age ≤ 0) does not count.
            pleased: [B, H] bool: how each turned out.
            candidates: [B, C] int64 rows; -1 for an item that the catalogue lacks.

        Returns:
            [B, C, K] float32.
        """
        older = self.known[buffer_rows(history, self.vectors)] & (age > 0)
        return self.compare(history, pleased, candidates, newest(older, self.last).unsqueeze(1))

    def compare(self, history: Tensor, pleased: Tensor, candidates: Tensor, compared: Tensor) -> Tensor:
        """As :meth:`forward`, where it is known what is compared with what.

        Args:
            compared: [B, 1 or C, H] bool: the history rows that count; items with a vector only.
        """
        theirs, mine = buffer_rows(history, self.vectors), buffer_rows(candidates, self.vectors)
        below = cosines(self.vectors, mine, theirs) - 1
        reaction = pleased.double().unsqueeze(2)  # [B, H, 1]
        mean = torch.matmul(compared.double(), reaction).squeeze(2) / compared.sum(-1)  # [B, 1 or C]
        columns = []
        for temperature, prior in zip(self.temperatures, self.priors):  # noqa: B905 — strict is not TorchScript's
            weight = torch.exp(below / temperature).masked_fill(~compared, 0.0)
            mass = weight.sum(-1)
            above = torch.matmul(weight, reaction).squeeze(2) - mass * mean
            columns.append(above / (mass + prior))
        found = torch.stack(columns, dim=-1)
        return found.masked_fill(~self.known[mine].unsqueeze(-1), math.nan).float()


class MatchAndReactions(nn.Module):
    """Match features and reactions of one history, for a service that gives a ranker all columns.

    Args:
        match, reaction: of the same items.
    """

    __jit_unused_properties__ = ["columns"]  # noqa: RUF012

    def __init__(self, match: MatchModule, reaction: ReactionModule) -> None:
        super().__init__()
        self.match = match
        self.reaction = reaction

    @property
    def columns(self) -> tuple[str, ...]:
        """[F + K] names of the columns, in the order of the ``match_features`` table."""
        return (*self.match.columns, *self.reaction.columns)

    def forward(self, history: Tensor, age: Tensor, pleased: Tensor, candidates: Tensor) -> Tensor:
        """[B, C, F + K] float32; arguments as :meth:`ReactionModule.forward`.

        The history must hold both what reactions look at, the newest events, and what match features look at, the
        newest that pleased. Older ones among and before them do no harm: each takes its own ``last``.
        """
        liked = history.masked_fill(~pleased, -1)
        columns = [self.match(liked, age, candidates), self.reaction(history, age, pleased, candidates)]
        return torch.cat(columns, dim=-1)
