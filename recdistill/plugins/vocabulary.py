"""Item ids and their rows.

Shapes: n items, q ids asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor, nn

from recdistill.errors import UserError
from recdistill.plugins.ids import like_ids, own_ids, positions
from recdistill.plugins.resizing import take_shapes


class ItemVocabulary(nn.Module):
    """Whose row a row is: the user's own ids, in the order of the tables beside it.

    A module without weights, so that the ids travel in ``state_dict`` with the tables that they number, as tensors:
    a checkpoint read beside another export's ids would give items each other's vectors. Loading a state takes its ids
    over, however many there are.

    Args:
        ids: n strings or integers, each once.

    Raises:
        UserError: there are none, one is null or repeated, or they are neither.

    Memory: the ids twice, and pandas' hash table (some 40 bytes an id).
    """

    values: Tensor  # int64 ids, or their UTF-8 as uint8
    ends: Tensor  # [n + 1] int64, where each string begins and ends; none for int64 ids

    def __init__(self, ids: Any) -> None:
        super().__init__()
        self._ids = own_ids(ids, what="vocabulary")
        if not len(self._ids):
            raise UserError("a vocabulary of no item ids", remedy="give it those of the tables beside it")
        _refuse_repeats(self._ids)
        for name, tensor in _encoded(self._ids).items():
            self.register_buffer(name, tensor)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> pd.Index:
        """[n] in the order of the rows."""
        return self._ids

    def rows(self, ids: Any) -> Tensor:
        """[q] int64 row of each id, -1 for one that is not known.

        Raises:
            UserError: an id is null, or they are of another kind than the vocabulary's.
        """
        return torch.from_numpy(positions(ids, known=self._ids, what="item ids")).to(self.values.device)

    def check_new(self, ids: Any) -> None:
        """Refuse ids that :meth:`append` would refuse, and change nothing.

        Raises:
            UserError: as there.
        """
        self._with(ids)

    def append(self, ids: Any) -> None:
        """Add ids behind those there are.

        Raises:
            UserError: as :meth:`rows`, or one is known already or repeated.
        """
        together = self._with(ids)
        if len(together) == len(self._ids):
            return
        self._ids = together
        for name, tensor in _encoded(together).items():
            setattr(self, name, tensor.to(self.values.device))

    def _with(self, ids: Any) -> pd.Index:
        together = self._ids.append(like_ids(ids, known=self._ids, what="item ids"))
        _refuse_repeats(together)
        return together

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        take_shapes(self, ("values", "ends"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._ids = _decoded(self.values.cpu(), self.ends.cpu())


def _refuse_repeats(ids: pd.Index) -> None:
    if not ids.is_unique:
        repeated = ids[ids.duplicated()]
        raise UserError(
            f"{len(repeated)} item ids stand in the vocabulary already, e.g. {repeated[:3].tolist()}",
            remedy="give each item one row",
        )


def _encoded(ids: pd.Index) -> dict[str, Tensor]:
    if ids.inferred_type == "integer":
        numbers = ids.to_numpy(dtype=np.int64).copy()
        return {"values": torch.from_numpy(numbers), "ends": torch.empty(0, dtype=torch.int64)}
    _, ends, letters = pa.array(ids.to_numpy(dtype=object), pa.large_string()).buffers()
    places = np.frombuffer(ends, dtype=np.int64, count=len(ids) + 1)
    return {
        "values": torch.from_numpy(np.frombuffer(letters, dtype=np.uint8, count=int(places[-1])).copy()),
        "ends": torch.from_numpy(places.copy()),
    }


def _decoded(values: Tensor, ends: Tensor) -> pd.Index:
    if values.dtype == torch.int64:
        return pd.Index(values.numpy().copy())
    buffers = [None, pa.py_buffer(ends.numpy().tobytes()), pa.py_buffer(values.numpy().tobytes())]
    return pd.Index(pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers).to_pandas()).astype("str")
