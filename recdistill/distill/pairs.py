"""Interest pairs as tensors, and the batches drawn from them.

Shapes: P pairs, L query length, B batch, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch
from scipy import sparse
from torch import Tensor

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One step's pairs.

    Attributes:
        place: [B] which of the pairs they are.
        query: [B, L] item rows, -1 is padding at the end.
        target: [B] item rows.
        user: [B] user rows of the training log.
        excluded: [B, B] bool, in-batch targets that are the query user's own positives.
    """

    place: Tensor
    query: Tensor
    target: Tensor
    user: Tensor
    excluded: Tensor


class InterestPairs:
    """The ``interest_pairs`` table over a numbered catalogue, drawn with weights.

    Attributes:
        query: [P, L] int32 item rows, -1 is padding at the end; target: [P] item rows; user: [P] user rows.
        log_q: [I] log of each item's chance to be a drawn pair's target; −inf where it never is.
    """

    def __init__(self, path: Path, training: Log, *, history_power: float) -> None:
        """Read the pairs.

        Args:
            training: the log whose positives are masked among a user's negatives; gives the item numbering.
            history_power: a pair weighs its user's number of pairs to the minus this power.

        Raises:
            UserError: there is no pair.
        """
        table = read_table(path)
        if len(table) == 0:
            raise UserError(
                f"{path}: mining kept no interest pair",
                remedy="lower mining.single_peak_behaviours or mining.min_length; see funnel.json",
            )
        items = training.item_ids
        lists = table[names.QUERY_ITEMS].combine_chunks()
        lengths = pc.list_value_length(lists).to_numpy()
        query = np.full((len(table), lengths.max()), -1, dtype=np.int32)
        query[np.arange(query.shape[1]) < lengths[:, None]] = items.get_indexer(pd.Index(lists.flatten().to_pandas()))
        self.query = torch.from_numpy(query)
        target = items.get_indexer(pd.Index(table[names.TARGET_ITEM].to_pandas()))
        self.target = torch.from_numpy(target.astype(np.int64))
        user = training.user_ids.get_indexer(pd.Index(table[names.USER_ID].to_pandas()))
        self.user = torch.from_numpy(user.astype(np.int64))
        weight = np.bincount(user).astype(np.float64)[user] ** -history_power
        self._cumulative = torch.from_numpy(np.cumsum(weight))
        share = np.bincount(target, weights=weight, minlength=len(items)) / weight.sum()
        with np.errstate(divide="ignore"):
            self.log_q = torch.from_numpy(np.log(share)).float()
        # What mining took for positive is positive, by whatever labels it went.
        positive, asked = training.positive(), query >= 0
        of_user = np.concatenate([training.user[positive], user, np.repeat(user, asked.sum(axis=1))]).astype(np.int64)
        of_item = np.concatenate([training.item[positive], target, query[asked]])
        shape = len(training.user_ids), len(items)
        # Repeats are summed, which of bools is or.
        self._positives = sparse.csr_array((np.ones(len(of_user), dtype=bool), (of_user, of_item)), shape=shape)

    def __len__(self) -> int:
        return len(self.target)

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        """Draw ``size`` pairs with replacement, in proportion to their weights."""
        rows = self.draw_places(size, generator)
        target, user = self.target[rows], self.user[rows]
        return Batch(rows, self.query[rows].long(), target, user, self.positive(user, target))

    def draw_places(self, size: int, generator: torch.Generator) -> Tensor:
        """[size] which pairs :meth:`draw` would give."""
        at = torch.rand(size, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        return torch.searchsorted(self._cumulative, at, right=True).clamp_max(len(self) - 1)

    def positive(self, user: Tensor, items: Tensor) -> Tensor:
        """[B, C] bool: which of C item rows are a positive of each of B users."""
        return torch.from_numpy(self._positives[user.numpy()][:, items.numpy()].toarray())

    def positives_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The positives of some users.

        Args:
            users: [n] user rows.

        Returns:
            [m] place among ``users``, ascending, and [m] item rows.
        """
        found = self._positives[users.numpy()]
        owner = np.repeat(np.arange(len(users)), np.diff(found.indptr))
        return torch.from_numpy(owner), torch.from_numpy(found.indices.astype(np.int64))
