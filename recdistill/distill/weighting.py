"""Rules by which the objectives' values become one loss.

Shapes: N items of a step, n items encoded once more, d student width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.distill.config import Trial, Weights


class Weighting(nn.Module):
    """The weights as they stand: the weighted sum."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.names = tuple(name for name, weight in dict(weights).items() if weight)
        self._weights = {name: float(getattr(weights, name)) for name in self.names}

    def forward(self, parts: Mapping[str, Tensor], outputs: Sequence[Tensor]) -> Tensor:
        """The loss.

        Args:
            parts: name → scalar of the objectives that the step computed.
            outputs: [N, d], [n, d] … all vectors of the student's of which they are functions.
        """
        return torch.stack([self._weights[name] * value for name, value in parts.items()]).sum()

    def told(self) -> dict[str, float]:
        """What the rule multiplies the weights by at present, for the curves."""
        return {}


class Uncertainty(Weighting):
    """Each objective has a noise σ² that is learned (Kendall et al., CVPR 2018, 1705.07115, equation 10).

    Σ w · (L / σ² + log σ), with s = log σ² learned and within ±``bound``: an objective whose value stays high is noise,
    and counts for less, one that goes to 0 does not take all.
    """

    bound = 4.0

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, parts: Mapping[str, Tensor], outputs: Sequence[Tensor]) -> Tensor:
        """The loss; it may be below 0."""
        learned = dict(zip(self.names, self.log_variance.clamp(-self.bound, self.bound), strict=True))
        return torch.stack(
            [
                self._weights[name] * (torch.exp(-learned[name]) * value + learned[name] / 2)
                for name, value in parts.items()
            ]
        ).sum()

    def told(self) -> dict[str, float]:
        """1 / σ² of each."""
        scales = torch.exp(-self.log_variance.detach().clamp(-self.bound, self.bound)).tolist()
        return {f"scale_{name}": scale for name, scale in zip(self.names, scales, strict=True)}


class GradientNorm(Weighting):
    """All objectives pull at the student's output as hard as the first; the weights are then shares of that pull.

    GradNorm's balance at α = 0 (Chen et al., ICML 2018, 1711.02257), taken at the student's output and set at once
    instead of learned: an objective is multiplied by the first one's gradient norm over its own, as running means. The
    norm is over all vectors that the objective reads, of a second view of an item as of the first.
    """

    def __init__(self, weights: Weights, *, decay: float = 0.9, most: float = 100.0) -> None:
        """Keep the rule's numbers.

        Args:
            decay: of the running means of the norms.
            most: bound of a multiplier and its inverse; an objective whose gradient is 0 cannot be balanced.
        """
        super().__init__(weights)
        self._decay, self._most = decay, most
        self.register_buffer("norm", torch.zeros(len(self.names)))  # running means; 0: none yet
        self.norm: Tensor
        self._told: dict[str, float] = {}

    def forward(self, parts: Mapping[str, Tensor], outputs: Sequence[Tensor]) -> Tensor:
        """The loss. Takes one backward from each objective to the student's output."""
        at = [self.names.index(name) for name in parts]
        with torch.no_grad():
            now = torch.stack([_pull(value, outputs) for value in parts.values()])
            before = self.norm[at]
            self.norm[at] = torch.where(before > 0, self._decay * before + (1 - self._decay) * now, now)
        scales = self._scales(at)
        self._told = {f"scale_{name}": scale for name, scale in zip(parts, scales.tolist(), strict=True)}
        return torch.stack(
            [self._weights[name] * scale * value for (name, value), scale in zip(parts.items(), scales, strict=True)]
        ).sum()

    def told(self) -> dict[str, float]:
        """Each multiplier of the last step."""
        return self._told

    def _scales(self, at: list[int]) -> Tensor:
        norms = self.norm[at]
        ratio = norms[0] / norms.clamp_min(torch.finfo(norms.dtype).tiny)
        return torch.where(norms > 0, ratio.clamp(1 / self._most, self._most), 1.0)


def make_weighting(trial: Trial) -> Weighting:
    """The trial's rule."""
    rules = {"fixed": Weighting, "uncertainty": Uncertainty, "gradient_norm": GradientNorm}
    return rules[trial.weighting](trial.weights)


def _pull(value: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """Norm of an objective's gradient at the student's output."""
    if not value.requires_grad:
        return value.new_zeros(())
    gradients = torch.autograd.grad(value, list(outputs), retain_graph=True, allow_unused=True)
    norms = [gradient.norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else value.new_zeros(())
