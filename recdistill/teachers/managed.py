"""Ids without bound in a table with bounds: who holds a row, who is let in, who had to go, and an account of it.

TorchRec's managed collision (MCH) maps raw ids to the rows of a table and every few steps gives rows of ids that are
rarely met to ids that are met more. Ids without a row share the last one, the *sink*, which belongs to nobody.
A step of training is::

    admission = managed.admit(ids)            # may change tenants
    table.reset(admission.changed)            # before any lookup: nothing of an old tenant stays
    rows = admission.rows[admission.resident]
    table.lookup(rows) ...

Shapes: S slots, n ids, E steps between evictions.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchrec import JaggedTensor
from torchrec.modules.mc_modules import (
    DistanceLFU_EvictionPolicy,
    LFU_EvictionPolicy,
    LRU_EvictionPolicy,
    MCHEvictionPolicy,
)

from recdistill.teachers.collisions import EMPTY, KEY, Collisions

Policy = Literal["lfu", "lru", "distance_lfu"]
POLICIES: dict[Policy, type[MCHEvictionPolicy]] = {
    "lfu": LFU_EvictionPolicy,
    "lru": LRU_EvictionPolicy,
    "distance_lfu": DistanceLFU_EvictionPolicy,
}
_EXAMPLES = 10


class Admission(NamedTuple):
    """What a step changed, and where its ids are now.

    Attributes:
        changed: slots with a new tenant, to be reset before any lookup.
        rows: [n] the ids' rows; the sink for those that have none.
        resident: [n] bool: the id has a row of its own.
    """

    changed: Tensor
    rows: Tensor
    resident: Tensor


class ManagedIds:
    """S - 1 rows for the ids that deserve them most.

    Memory: 48·S bytes, 128·S of counts by default (16·``width``), and 20·E·n of history. The eviction, once in E
    steps, sorts the history.

    Args:
        slots: S, rows of the table, the last of which is the sink.
        policy: who stays. ``lfu``: the most frequent; ``lru``: the latest; ``distance_lfu``: frequency, since it got
            its row, over the steps since the last time, to the power ``decay``. In ``lfu`` an id comes in with its
            whole count. In ``distance_lfu`` it brings the interval's, as in TorchRec: it is judged just when it was
            met, and with the whole count it would turn out ids far more frequent that happen to wait for their turn.
        admit_after: an id gets no row before it has been recorded so often, in all or (in an endless stream) of late.
            Every admission costs a reset row; in ``distance_lfu`` a low threshold lets rare ids turn out frequent ones.
        every: E. Rows are given only at evictions: nobody has one in the first E - 1 steps, and a newcomer waits up
            to E steps for its own.
        decay: of ``distance_lfu``; 0 is ``lfu``.
        width: cells a row of the sketch that remembers the counts of ids without a row; 8·S by default.

    Raises:
        ValueError: fewer than two slots.
    """

    def __init__(
        self,
        slots: int,
        *,
        policy: Policy,
        admit_after: int,
        every: int,
        decay: float = 1.0,
        width: int | None = None,
    ) -> None:
        if slots < 2:
            raise ValueError(f"slots must be at least 2, the sink and one more, not {slots}")
        of = DistanceLFU_EvictionPolicy(decay_exponent=decay) if policy == "distance_lfu" else POLICIES[policy]()
        self._slots = slots
        self._settings = torch.tensor([slots, list(POLICIES).index(policy), every])
        self._module = Collisions(
            slots,
            policy=of,
            every=every,
            admit_after=admit_after,
            whole_counts=policy == "lfu",
            width=width or 8 * slots,
        )
        self._tenants = torch.full((slots,), EMPTY)  # [S] the module's map, by row
        self._steps = torch.zeros(slots, dtype=torch.int64)  # [S] trained since the tenant came
        self._tally = torch.zeros(4, dtype=torch.int64)  # recorded, served, admitted, evicted
        self._examples = torch.full((2, _EXAMPLES), EMPTY)  # evicted ids, and their steps
        self._examples[1] = -1

    @property
    def sink(self) -> int:
        """The row that belongs to nobody."""
        return self._slots - 1

    def admit(self, ids: Tensor) -> Admission:
        """Record the ids of a training step; the caller trains on those that are resident.

        Args:
            ids: [n] raw ids with repeats: those that the step learns from. What it merely draws, as negatives,
                does not belong here: it would count as met.
        """
        recorded = ids[ids != EMPTY]
        features = JaggedTensor(values=recorded, lengths=torch.tensor([len(recorded)]))
        self._module.profile({KEY: features})
        changed = self._module.evict()
        if changed is None:
            changed = torch.empty(0, dtype=torch.int64)
        else:
            self._account(changed)
        rows, resident = self.rows(ids)
        own = rows[resident]
        self._steps[own] += 1  # once a step, however often it comes
        self._tally[:2] += torch.tensor([len(ids), len(own)])
        return Admission(changed, rows, resident)

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """[n] raw ids → [n] rows (the sink for those without one), [n] bool whether the row is the id's own."""
        features = JaggedTensor(values=ids, lengths=torch.tensor([len(ids)]))
        rows = self._module.remap({KEY: features})[KEY].values()
        resident = (rows != self.sink) & (ids != EMPTY)
        return torch.where(resident, rows, self.sink), resident

    def resident(self, *, min_steps: int = 1) -> tuple[Tensor, Tensor]:
        """Who may be exported, and from where.

        Args:
            min_steps: steps that a tenant must have been trained in since it got its row: before the first, the row
                says nothing of it. 0 gives all tenants.

        Returns:
            [m] raw ids and [m] their rows, ascending; neither repeats, and the sink is not among them.
        """
        rows = torch.nonzero((self._tenants != EMPTY) & (self._steps >= min_steps)).flatten()
        return self._tenants[rows], rows

    def report(self) -> dict[str, Any]:
        """The account so far.

        Returns:
            ``recorded`` ids with repeats, ``distinct`` of them (to about 1%), ``served``: the share of the recorded
            that had a row when they came, ``admitted`` and ``evicted`` (an id that comes back counts again),
            ``resident``, ``trained`` (of those), and ``evicted_most_trained``: (id, steps) of up to ten evictions.
            ``distinct`` is as of the latest eviction.
        """
        recorded, served, admitted, evicted = self._tally.tolist()
        ids, steps = self._examples[:, self._examples[1] >= 0].tolist()
        return {
            "recorded": recorded,
            "distinct": self._module.distinct.estimate(),
            "served": served / max(recorded, 1),
            "admitted": admitted,
            "evicted": evicted,
            "resident": len(self.resident(min_steps=0)[0]),
            "trained": len(self.resident()[0]),
            "evicted_most_trained": list(zip(ids, steps, strict=True)),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything as plain tensors (live, not copies), the history since the latest eviction too."""
        own = {"settings": self._settings, "steps": self._steps, "tally": self._tally, "examples": self._examples}
        return own | self._module.whole_state()

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Copy a state in.

        Raises:
            ValueError: it is of other slots, another policy or another interval.
        """
        if not torch.equal(state_dict["settings"], self._settings):
            given, own = state_dict["settings"].tolist(), self._settings.tolist()
            raise ValueError(f"a state of (slots, policy, every) {given} does not fit {own}")
        for name, values in (("steps", self._steps), ("tally", self._tally), ("examples", self._examples)):
            values.copy_(state_dict[name])
        self._module.load_whole_state(state_dict)
        self._tenants = self._module.tenants()

    def _account(self, changed: Tensor) -> None:
        before, steps = self._tenants[changed], self._steps[changed]
        left = before != EMPTY
        self._tally[2:] += torch.tensor([len(changed), int(left.sum())])
        evicted = torch.stack([before[left], steps[left]])
        merged = torch.cat([self._examples, evicted], dim=1)
        self._examples.copy_(merged[:, torch.argsort(merged[1], descending=True, stable=True)[:_EXAMPLES]])
        self._steps[changed] = 0
        self._tenants = self._module.tenants()
