"""Hard negatives of the interest pairs: near a query, yet no positive of its user.

Shapes: P pairs, L query length, I items, T items that are ever a target, H negatives a query, Q queries mined for.
Memory: 4·P·H bytes, and those of :mod:`recdistill.retrieval.hard_negatives` for Q queries and T targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recdistill.distill.config import HardNegatives
from recdistill.distill.pairs import Batch, InterestPairs
from recdistill.retrieval.hard_negatives import BLOCK, dataset_threshold, mine
from recdistill.training import step_generator

_NUMBERS = 20_000_000  # cosines at one time: 340 MB


class NegativeMiner:
    """Mines by the student as it stands, from time to time, and says what was mined for a batch.

    A batch is drawn by (seed, step), so that the pairs are known which the steps until the next refresh will meet: for
    these it mines. Where they are more than ``queries``, an even draw of them is mined for, so that no step goes short.
    As in content-aware training, what lies above λ* counts as a false negative (SAIL-Embedding, 3.1.2). Only items
    that are ever a target are mined: of others the sampling correction knows no chance.
    """

    def __init__(self, config: HardNegatives, pairs: InterestPairs, *, seed: int) -> None:
        self._config, self._pairs, self._seed = config, pairs, seed
        self._targets = torch.isfinite(pairs.log_q).nonzero().flatten()
        self._mined = torch.full((len(pairs), config.count), -1, dtype=torch.int32)
        self._threshold = torch.tensor(torch.nan)

    @property
    def threshold(self) -> float:
        """λ* of the last refresh; NaN before the first."""
        return float(self._threshold)

    def due(self, step: int) -> bool:
        """Whether a step must :meth:`refresh` first."""
        return bool(self._config.count) and step % self._config.refresh_every == 0

    def until_next(self, step: int) -> range:
        """The steps that what :meth:`refresh` mines at ``step`` is for."""
        return range(step, step + self._config.refresh_every)

    @torch.no_grad()
    def refresh(self, vectors: Tensor, head: Callable[[Tensor, Tensor], Tensor], step: int, *, coming: Tensor) -> None:
        """Mine anew.

        Args:
            vectors: [I, d] of the catalogue.
            head: query items' vectors [Q, L, d] and [Q, L] bool → [Q, d].
            coming: [n] which pairs this step and those until the next refresh meet, at least one.
        """
        generator = step_generator(self._seed + 1, step)  # the batch of the step draws from (seed, step)
        met = coming.unique()
        asked = met[torch.randperm(len(met), generator=generator)[: self._config.queries]]
        asking = torch.cat([self._ask(rows, vectors, head) for rows in self._pairs.query[asked].long().split(BLOCK)])
        targets = vectors[self._targets]
        block = max(1, min(BLOCK, _NUMBERS // len(targets)))
        known = self._known(asked)
        few = self._config.threshold_queries
        own = torch.searchsorted(self._targets, self._pairs.target[asked[:few]])
        pairs = torch.stack([torch.arange(len(own)), own], dim=1)
        apart = known[known[:, 0] < len(own)]  # what a user likes beside the target is no negative either
        threshold, _ = dataset_threshold(asking[:few], targets, pairs, apart=apart, block=block)
        hard = mine(asking, targets, known, threshold=threshold, count=self._config.count, block=block)
        rows = torch.where(hard < 0, hard, self._targets[hard.clamp_min(0)])
        self._mined.fill_(-1)
        self._mined[asked] = rows.int()
        self._threshold.fill_(threshold)

    def of(self, batch: Batch) -> Tensor:
        """[E] distinct item rows mined for the batch's pairs, none of which is a target of it, ascending."""
        found = self._mined[batch.place].unique().long()
        return found[(found >= 0) & ~torch.isin(found, batch.target)]

    def state_dict(self) -> dict[str, Any]:
        """What an earlier state of the student mined, which a resumed training must see again."""
        return {"mined": self._mined, "threshold": self._threshold}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take what :meth:`state_dict` gave."""
        self._mined.copy_(state["mined"])
        self._threshold.copy_(state["threshold"])

    def _ask(self, query: Tensor, vectors: Tensor, head: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """[b, d] vectors of some queries."""
        return head(vectors[query.clamp_min(0)], query >= 0)

    def _known(self, asked: Tensor) -> Tensor:
        """[n, 2] places among the asked pairs and the targets: their users' positives, as far as they are targets."""
        owner, items = self._pairs.positives_of(self._pairs.user[asked])
        place = torch.searchsorted(self._targets, items).clamp_max(len(self._targets) - 1)
        at = self._targets[place] == items
        return torch.stack([owner[at], place[at]], dim=1)
