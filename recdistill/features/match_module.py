"""Match features as one module: the batch, Spark and a service all call it, so the definition stands here alone.

Shapes: I items, d width, K interests, L levels of semantic IDs, B users at once, H history rows, C candidates,
F columns.

A user's history is the positives strictly before the moment asked about, ``last`` of them at most, the newest; items
without a vector are no part of it. A cosine is that of the space's centred unit vectors. The columns:

- ``match_mean``, ``match_max``: mean and maximum of the candidate's cosines to the history's items;
- ``match_topk``: mean of the ``top_k`` largest, or of what there is;
- ``match_decayed``: mean weighted by ``2^(-age / half life)``;
- ``match_interest``: the history is grouped by the items' clusters into interests; the largest mean cosine to the items
  of one, which is the product with its centroid;
- ``match_interest_share``: that interest's share of the history (of equally near ones, the largest share);
- ``match_sid_1`` … ``match_sid_L``: share of the history's items whose semantic ID begins with the candidate's first
  1 … L codes;
- ``match_items``: how many items were compared.

Where nothing can be compared (no vector of the candidate, or no history) ``match_items`` is 0 and the others NaN;
``match_sid_`` columns are NaN too for a candidate without a semantic ID.

**Equality.** Cosines are the same bits everywhere, and so are their sums (:mod:`recdistill.features.cosines`). All
columns but ``match_decayed`` are thereby the same bits however the rows are padded, blocked, threaded or fused; that
one differs by float64's rounding, before all are given as float32.
"""

# No postponed annotations here: torch.jit.script reads them as they are.
import math
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recdistill.features.cosines import buffer_rows, cosines, newest, padded
from recdistill.features.match_basis import MatchBasis
from recdistill.features.space import Space

OF_COSINES = ("match_mean", "match_max", "match_topk", "match_decayed", "match_interest", "match_interest_share")
OF_LEVEL = "match_sid_"
ITEMS = "match_items"


class MatchModule(nn.Module):
    """The columns of candidates against histories, both given as rows of a catalogue.

    ``torch.export`` takes it with any number of users, history rows and candidates; so does ``torch.jit.script``. The
    buffers stay float32: sums are in float64 inside, and halved vectors would be others.

    Buffers: vectors [I + 1, d] float32, interest [I + 1] int64 (K without a vector), codes [I + 1, L] int32 (-1 without
    a semantic ID); the last row is no item's.

    Memory of a call: B · H · 12 d + B · C · (12 d + 80 H + 40 K) bytes.
    """

    __jit_unused_properties__ = ["present", "columns"]  # noqa: RUF012
    vectors: Tensor
    interest: Tensor
    codes: Tensor

    def __init__(
        self,
        *,
        vectors: np.ndarray,
        interest: np.ndarray,
        codes: np.ndarray,
        interests: int,
        last: int,
        top_k: int,
        half_life_days: float,
    ) -> None:
        """
        Args:
            vectors: [I, d] float32 of length one.
            interest: [I] int, -1 where an item has no vector.
            codes: [I, L] int, coarse to fine, -1 where an item has none; L may be 0.
            interests: K.
        """
        super().__init__()
        self.register_buffer("vectors", padded(vectors))
        known = torch.from_numpy(np.where(interest < 0, interests, interest).astype(np.int64))
        self.register_buffer("interest", F.pad(known, (0, 1), value=interests))
        self.register_buffer("codes", F.pad(torch.from_numpy(codes.astype(np.int32)), (0, 0, 0, 1), value=-1))
        self.interests = interests
        self.last = last
        self.top_k = top_k
        self.half_life_days = half_life_days

    @classmethod
    def of(cls, space: Space, basis: MatchBasis, codes: np.ndarray | None = None) -> Self:
        """The items of a space that was made with the basis' mean.

        Args:
            codes: [I, L] semantic IDs of the same rows (or numbers of their prefixes), -1 where there is none.
        """
        return cls(
            vectors=space.vectors,
            interest=basis.interests(space),
            codes=np.empty((len(space.vectors), 0), dtype=np.int32) if codes is None else codes,
            interests=len(basis.centroids),
            last=basis.config.last,
            top_k=basis.config.top_k,
            half_life_days=basis.config.half_life_days,
        )

    @property
    def present(self) -> np.ndarray:
        """[I] bool: the items that have a vector."""
        return (self.interest[:-1] < self.interests).numpy()

    @property
    def columns(self) -> tuple[str, ...]:
        """[F] names of the columns."""
        return (*OF_COSINES, *(f"{OF_LEVEL}{at + 1}" for at in range(self.codes.shape[1])), ITEMS)

    def forward(self, history: Tensor, age: Tensor, candidates: Tensor) -> Tensor:
        """Columns of each user's candidates.

        Args:
            history: [B, H] int64 rows of the items that pleased the user, oldest first, of equal times the lower row
                first; -1 pads, anywhere. More than ``last`` may be given.
            age: [B, H] days from each to the moment asked about; what is not older (age ≤ 0) does not count. float64,
                or an age of 1,000 days is off by seconds.
            candidates: [B, C] int64 rows; -1 for an item that the catalogue lacks.

        Returns:
            [B, C, F] float32.
        """
        older = (self.interest[buffer_rows(history, self.vectors)] < self.interests) & (age > 0)
        return self.compare(history, age.unsqueeze(1), candidates, newest(older, self.last).unsqueeze(1))

    def compare(self, history: Tensor, age: Tensor, candidates: Tensor, compared: Tensor) -> Tensor:
        """As :meth:`forward`, where it is known what is compared with what.

        Args:
            age: [B, 1 or C, H] days.
            compared: [B, 1 or C, H] bool: the history rows that count; items with a vector only.
        """
        theirs, mine = buffer_rows(history, self.vectors), buffer_rows(candidates, self.vectors)
        others = ~compared
        cosine = cosines(self.vectors, mine, theirs)
        counted = cosine.masked_fill(others, 0.0)
        total = compared.sum(-1).double()  # [B, 1 or C]
        largest = self._largest(cosine.masked_fill(others, -math.inf))
        best = largest.masked_fill(largest == -math.inf, 0.0).sum(-1) / total.clamp(max=float(self.top_k))
        weight = self._weight(age, others)
        decayed = (counted * weight).sum(-1) / weight.sum(-1)
        interest, share = self._interests(counted, compared, self.interest[theirs])
        columns = [counted.sum(-1) / total, largest[..., 0], best, decayed, interest, share / total]

        same = compared
        for at in range(self.codes.shape[1]):
            code = self.codes[mine, at]
            same = same & (code.unsqueeze(2) == self.codes[theirs, at].unsqueeze(1))
            columns.append((same.sum(-1) / total).masked_fill(code < 0, math.nan))
        nothing = (total == 0) | (self.interest[mine] == self.interests)
        found = torch.stack(columns, dim=-1).masked_fill(nothing.unsqueeze(-1), math.nan)
        items = total.expand_as(nothing).masked_fill(nothing, 0.0).unsqueeze(-1)
        return torch.cat([found, items], dim=-1).float()

    def _largest(self, cosine: Tensor) -> Tensor:
        """[B, C, top_k] descending, -inf where there are fewer."""
        none = cosine.new_full((cosine.shape[0], cosine.shape[1], self.top_k), -math.inf)
        return torch.cat([cosine, none], dim=-1).topk(self.top_k, dim=-1)[0]

    def _weight(self, age: Tensor, others: Tensor) -> Tensor:
        # Ages count from the newest: the weighted mean is the same, and the weights cannot all underflow.
        days = age.double().masked_fill(others, math.inf)
        since = days - days.amin(-1, keepdim=True)
        return torch.exp2(since / -self.half_life_days).masked_fill(others, 0.0)

    def _interests(self, counted: Tensor, compared: Tensor, interest: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C] the nearest interest's mean cosine, and [B, C] how many of the history are in it.

        Args:
            counted: [B, C, H] cosines, 0 for what is not compared.
            interest: [B, H].
        """
        of = interest.unsqueeze(1)
        slots = self.interests + 1  # the last for items without a vector, which are not compared
        sums = counted.new_zeros((counted.shape[0], counted.shape[1], slots))
        sums = sums.scatter_add(2, of.expand_as(counted), counted)
        members = counted.new_zeros((compared.shape[0], compared.shape[1], slots))
        members = members.scatter_add(2, of.expand_as(compared), compared.double())
        means = (sums / members).masked_fill(members == 0, -math.inf)
        nearest = means.amax(-1)
        share = torch.where(means == nearest.unsqueeze(-1), members, 0.0).amax(-1)
        return nearest, share
