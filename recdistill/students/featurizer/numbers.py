"""Numbers: standardised, in soft bins at their quantiles (a decade, a price class), and whether they are missing.

Shapes: n items, F number fields, K bins.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.students.featurizer.scaling import unit_scale

_FARTHEST = 4.0  # standard deviations: one misread value must not drown an item


class Numbers(nn.Module):
    """[n, F] → [n, F · (2 + K)]: per field the standardised value, K bins and the missing flag; centred, mean norm 1.

    A missing value is the catalogue's mean, but for its flag. Where no item of the catalogue lacks the field the flag
    stays zero, since nothing could be learned from it.
    """

    centre: Tensor
    spread: Tensor
    knots: Tensor
    bin_mean: Tensor
    missing: Tensor
    scale: Tensor

    def __init__(self, *, fields: int, bins: int) -> None:
        super().__init__()
        self.fields, self.bins, self.width = fields, bins, fields * (2 + bins)
        self.register_buffer("centre", torch.zeros(fields, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(fields, dtype=torch.float64))
        self.register_buffer("knots", torch.zeros(fields, bins, dtype=torch.float64))
        self.register_buffer("bin_mean", torch.zeros(fields, bins))
        self.register_buffer("missing", torch.zeros(fields))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, values: np.ndarray, *, bins: int) -> Numbers | None:
        """Fit on [n, F] float64 with NaN; None if nothing is known or nothing varies."""
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        count = np.maximum(known.sum(axis=0), 1)
        centre = filled.sum(axis=0) / count
        spread = np.sqrt((np.where(known, values - centre, 0.0) ** 2).sum(axis=0) / count)
        if not (spread > 0).any():
            return None
        fitted = cls(fields=values.shape[1], bins=bins)
        fitted.centre.copy_(torch.from_numpy(centre))
        fitted.spread.copy_(torch.from_numpy(np.where(spread > 0, spread, np.inf)))
        for field in range(values.shape[1]):
            if bins and known[:, field].any():
                at = np.quantile(values[known[:, field], field], (np.arange(bins) + 0.5) / bins)
                fitted.knots[field] = torch.from_numpy(at)
        share = 1 - known.mean(axis=0)
        fitted.missing.copy_(torch.from_numpy(share))
        membership = fitted._bins(torch.from_numpy(filled))  # [n, F, K]
        weight = torch.from_numpy(known / count)
        fitted.bin_mean.copy_((membership.double() * weight[..., None]).sum(0))
        fitted.scale.copy_(unit_scale(fitted(values)[torch.from_numpy(known.any(axis=1))]))
        return fitted

    def forward(self, values: np.ndarray) -> Tensor:
        """[n, F] float64 with NaN → [n, F · (2 + K)] float32."""
        given = torch.from_numpy(values).to(self.centre.device)
        known = given.isfinite()
        filled = torch.where(known, given, self.centre)
        standard = ((filled - self.centre) / self.spread).clamp(-_FARTHEST, _FARTHEST).float()
        bins = torch.where(known[..., None], self._bins(filled) - self.bin_mean, 0.0)
        flag = torch.where(self.missing > 0, (~known).float() - self.missing, 0.0)
        return torch.cat([standard[..., None], bins, flag[..., None]], dim=-1).flatten(1) * self.scale

    def _bins(self, values: Tensor) -> Tensor:
        """[n, F, K] float32 hat functions: 1 at a bin's knot, falling to 0 at the next; the outer bins go on."""
        if not self.bins:
            return torch.zeros(*values.shape, 0, device=values.device)
        at = values[..., None]
        left = (at - self.knots[:, :-1]) / (self.knots[:, 1:] - self.knots[:, :-1]).clamp(min=1e-12)
        passed = left.clamp(0, 1)  # [n, F, K - 1] how far the value is from one knot to the next
        ones, zeros = torch.ones_like(at), torch.zeros_like(at)
        return (torch.cat([ones, passed], -1) - torch.cat([passed, zeros], -1)).float()
