"""An item's nearest in the ID teachers, in their order, above what is on no list.

Shapes: I items, K a list's depth, A anchors, k drawn of a list, U uninteresting items, d the student's width.
Memory: 4·I·K bytes a teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.pairs import Batch
from recdistill.distill.teachers import Target
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.ranking import relaxed_ranking
from recdistill.retrieval.ranks import topk


class Ranking(Term):
    """Relaxed ranking distillation of items' neighbours; mean over teachers and prefixes.

    Of a list items are drawn by their place on it, so that its head counts most (DE-RRD, section 3.2). The anchors are
    drawn among the step's targets that the teacher knows, and some among all that it knows, so that items without
    behaviour are asked for their neighbours too, where the teacher knows any; the uninteresting items are drawn among
    all that it knows, and shared by the anchors, less each one's own list.
    """

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._of = given.trial.ranking
        self._targets = given.targets
        self._lists = [neighbours(target, depth=self._of.depth) for target in self._targets]
        self._known = [_known(target) for target in self._targets]

    def more(self, pairs: Batch, generator: torch.Generator) -> Tensor:
        """[teachers, A·(1 + k) + U] rows: anchors, what is drawn of their lists (themselves, where short), others."""
        return torch.stack([self._draw(pairs.target.unique(), which, generator) for which in range(len(self._targets))])

    def forward(self, batch: Encoded) -> Tensor:
        """Of the anchors drawn."""
        return torch.stack(
            [self._teach(which, rows, batch) for which, rows in enumerate(batch.draw.more["ranking"])]
        ).mean()

    def _draw(self, asked: Tensor, which: int, generator: torch.Generator) -> Tensor:
        of, known = self._of, self._known[which]
        asked = asked[self._targets[which].confidence[asked] > 0]
        asked = asked if len(asked) else known  # a batch of which the teacher knows nothing
        anchors = torch.cat(
            [
                asked[torch.randint(len(asked), (of.anchors,), generator=generator)],
                known[torch.randint(len(known), (of.catalogue_anchors,), generator=generator)],
            ]
        )
        lists = self._lists[which][anchors]  # [A, K]
        chance = torch.exp(-torch.arange(lists.shape[1]) / of.decay)
        drawn = torch.multinomial(chance.expand(len(anchors), -1), of.drawn, generator=generator).sort(dim=1).values
        found = lists.gather(1, drawn)
        found = torch.where(found < 0, anchors[:, None], found)
        others = known[torch.randint(len(known), (of.uninteresting,), generator=generator)]
        return torch.cat([anchors, found.flatten(), others])

    def _teach(self, which: int, rows: Tensor, batch: Encoded) -> Tensor:
        of = self._of
        anchors = of.anchors + of.catalogue_anchors
        sizes = (anchors, anchors * of.drawn, of.uninteresting)
        anchor, drawn, other = rows.split(sizes)
        drawn = drawn.view(anchors, of.drawn)
        # Not on the anchor's own list, nor the anchor.
        off = ~(self._lists[which][anchor][:, :, None] == other).any(dim=1) & (anchor[:, None] != other)
        weight = self._targets[which].confidence[anchor]
        places = batch.draw.places(rows)

        def at(width: int) -> Tensor:
            unit = F.normalize(F.embedding(places, batch.vectors[:, :width]), dim=-1)
            of_anchor, of_drawn, of_other = unit.split(sizes)
            near = torch.einsum("ad,akd->ak", of_anchor, of_drawn.view(*drawn.shape, width))
            return relaxed_ranking(
                near,
                of_anchor @ of_other.T,
                valid=drawn != anchor[:, None],
                valid_uninteresting=off,
                weight=weight,
                temperature=of.temperature,
            )

        return torch.stack([at(width) for width in batch.prefixes]).mean()


def neighbours(target: Target, *, depth: int) -> Tensor:
    """[I, K] int32 item rows: the nearest of each item that the teacher knows, nearest first; −1 elsewhere."""
    known = _known(target)
    found = torch.full((len(target.vectors), depth), -1, dtype=torch.int32)
    if len(known) > 1:
        vectors = target.vectors[known]
        near, _ = topk(vectors, vectors, k=min(depth, len(known) - 1), own=torch.arange(len(known)))
        found[known, : near.shape[1]] = torch.where(near < 0, -1, known[near.clamp_min(0)]).int()
    return found


def _known(target: Target) -> Tensor:
    """Rows of the items that count; all, of weight 0, where none does."""
    known = (target.confidence > 0).nonzero().flatten()
    return known if len(known) else torch.arange(len(target.vectors))
