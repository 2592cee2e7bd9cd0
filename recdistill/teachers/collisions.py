"""TorchRec's managed collision module, with admission by count and a state that is whole.

Of TorchRec 1.8's module this overrides three methods, two of them private: the version is pinned, and
``tests/teachers/test_managed_ids.py`` shows each trap that is closed here on TorchRec's own module.

Shapes: S slots, E steps between evictions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchrec import JaggedTensor
from torchrec.modules.mc_modules import MCHEvictionPolicy, MCHManagedCollisionModule

from recdistill.retrieval.hashing import mix
from recdistill.teachers.sketches import CountMin, Distinct

# TorchRec's mark of an empty slot. As an id it would be taken for a resident of the first empty one.
EMPTY = torch.iinfo(torch.int64).max
KEY = "id"
_COUNTS = "counts"


class Collisions(MCHManagedCollisionModule):
    """TorchRec's module with admission, and without four of its traps (1.8).

    - Its own threshold function drops residents too that an interval saw rarely: their counts and times then stand
      still, and they are evicted as if not met. Here admission concerns only those who ask to come in.
    - It knows of an id without a row only what one interval saw, so that under ``lfu`` an id met once in each never
      gets in. Here it comes with its whole count (``whole_counts``).
    - Its history is as long as the first batch suggests, and cuts later batches without a word. Here it grows.
    - Its state leaves out the history and the time of the latest eviction.
    """

    def __init__(
        self,
        slots: int,
        *,
        policy: MCHEvictionPolicy,
        every: int,
        admit_after: int,
        whole_counts: bool,
        width: int,
    ) -> None:
        super().__init__(
            zch_size=slots, device=torch.device("cpu"), eviction_policy=policy, eviction_interval=every, name=KEY
        )
        self._admit_after, self._whole_counts = admit_after, whole_counts
        self.counts, self.distinct = CountMin(width), Distinct()
        self._make_room(1)

    def tenants(self) -> Tensor:
        """[S] the id in each row, or EMPTY."""
        tenants = torch.empty_like(self._mch_sorted_raw_ids)
        tenants[self._mch_remapped_ids_mapping] = self._mch_sorted_raw_ids
        return tenants

    def profile(self, features: dict[str, JaggedTensor]) -> dict[str, JaggedTensor]:
        self._make_room(sum(feature.values().numel() for feature in features.values()))
        return super().profile(features)

    def whole_state(self) -> dict[str, Tensor]:
        until = self._current_history_buffer_offset
        return {
            **{f"torchrec.{name}": values for name, values in self.state_dict().items()},
            "history.ids": self._history_accumulator[:until],
            **{f"history.{name}": values[:until] for name, values in self._history_metadata.items()},
            "clock": torch.tensor([self._current_iter, self._last_eviction_iter]),
            "counts.cells": self.counts.cells,
            "counts.events": self.counts.events,
            "distinct": self.distinct.registers,
        }

    def load_whole_state(self, state: dict[str, Tensor]) -> None:
        prefix = "torchrec."
        self.load_state_dict({name[len(prefix) :]: of for name, of in state.items() if name.startswith(prefix)})
        self._current_iter, self._last_eviction_iter = state["clock"].tolist()
        self.counts.cells.copy_(state["counts.cells"])
        self.counts.events.copy_(state["counts.events"])
        self.distinct.registers.copy_(state["distinct"])
        until = len(state["history.ids"])
        self._current_history_buffer_offset = 0
        self._make_room(until)
        self._history_accumulator[:until] = state["history.ids"]
        for name, values in self._history_metadata.items():
            values[:until] = state[f"history.{name}"]
        self._current_history_buffer_offset = until

    @torch.no_grad()
    def _update_and_evict(
        self, uniq_ids: Tensor, uniq_ids_counts: Tensor, uniq_ids_metadata: dict[str, Tensor]
    ) -> None:
        hashes = mix(0, uniq_ids.numpy().view(np.uint64))
        self.distinct.add(hashes)
        earlier = self.counts.add(hashes, uniq_ids_counts)
        tenant, _ = self._match_indices(self._mch_sorted_raw_ids, uniq_ids)
        whole = earlier + uniq_ids_counts
        heard = tenant | (whole >= self._admit_after)
        counts = torch.where(tenant, uniq_ids_counts, whole) if self._whole_counts else uniq_ids_counts
        metadata = {name: values[heard] for name, values in uniq_ids_metadata.items()}
        super()._update_and_evict(uniq_ids[heard], counts[heard], metadata)
        # Tenants must grow old with the others, or nobody new could ever outdo them.
        if self.counts.halve_when_full() and _COUNTS in self._mch_metadata:
            self._mch_metadata[_COUNTS] >>= 1

    def _make_room(self, more: int) -> None:
        until = self._current_history_buffer_offset
        if self._input_history_buffer_size >= until + more:
            return
        kept = {name: values[:until] for name, values in self._history_metadata.items()}
        ids = self._history_accumulator[:until] if until else None
        # TorchRec's size is that of E such batches and a quarter more.
        batch = torch.empty(until + more, dtype=torch.int64)
        self._init_history_buffers({KEY: JaggedTensor(values=batch, lengths=torch.tensor([len(batch)]))})
        if ids is not None:
            self._history_accumulator[:until] = ids
            for name, values in kept.items():
                self._history_metadata[name][:until] = values
