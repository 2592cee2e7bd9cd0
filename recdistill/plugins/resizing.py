"""Modules whose tables take the size of the state that they load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


def take_shapes(module: nn.Module, of: Sequence[str], state_dict: Mapping[str, Any], prefix: str) -> None:
    """Give buffers and parameters the shape (and buffers the dtype) that a state has for them, before it is loaded.

    A parameter stays the same object. An optimizer that knows its old shape has to be made anew.
    """
    for name in of:
        loaded, own = state_dict.get(prefix + name), getattr(module, name)
        if loaded is None:
            continue
        if isinstance(own, nn.Parameter):
            own.data = torch.empty(loaded.shape, dtype=own.dtype, device=own.device)
            own.grad = None
        else:
            setattr(module, name, torch.empty(loaded.shape, dtype=loaded.dtype, device=own.device))
