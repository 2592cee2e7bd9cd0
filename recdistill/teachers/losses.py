"""Losses of scores: tensors in, a scalar out.

Shapes: T targets, B users, M negatives shared by the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.teachers.indexing import gather

# Finite, so that a row whose every negative is masked has loss 0 and gradient 0, not NaN.
MASKED = -1e9


def candidate_bias(prior: Tensor, log_expected: Tensor | None) -> Tensor:
    """What to add to the candidates' scores.

    A sampled candidate is lowered by the log of its expected number in the sample (logQ correction; Yi et al.,
    RecSys 2019, §3): the sum of exponentials over the sample then estimates the sum over all items.

    Args:
        prior: [M] share of popularity that the scores do not have to learn.
        log_expected: [M] log of each candidate's expected count; None where the candidates are all items.
    """
    return prior if log_expected is None else prior - log_expected


def softmax_loss(targets: Tensor, user: Tensor, negatives: Tensor, *, weight: Tensor) -> Tensor:
    """-log of each target's softmax share against its user's negatives.

    Args:
        targets: [T] scores of the targets.
        user: [T] row of ``negatives`` that each target competes with.
        negatives: [B, M] scores with :func:`candidate_bias`, :data:`MASKED` where a candidate is no negative.
        weight: [T] the weighted mean over targets is the loss.
    """
    rest = torch.logsumexp(negatives, dim=1, keepdim=True)
    return _mean(softplus(gather(rest, user).squeeze(1) - targets), weight)


def full_softmax_loss(
    states: Tensor, items: Tensor, bias: Tensor | None, target: Tensor, *, block: int = 128
) -> Tensor:
    """Mean cross-entropy of each state's target among all items, without keeping the scores.

    Forward takes the gradients along, a block of states at a time: three products of the plain way's size, but no
    [P, V] matrix is written for backward (Wijmans et al., 2024, arXiv 2411.09009). Memory 4·(2·block·V + (P + V)·d).

    Args:
        states: [P, d]
        items: [V, d]
        bias: [V] added to the scores; None: nothing.
        target: [P] rows of ``items``.
        block: states at once; it changes the result by rounding only.
    """
    loss: Tensor = _FullSoftmax.apply(states, items, bias, target, block)
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, bias: Tensor | None, target: Tensor, block: int) -> Tensor:
        of_states, of_items = torch.empty_like(states), torch.zeros_like(items)
        total, transposed, count = torch.zeros((), dtype=states.dtype), items.T.contiguous(), len(states)
        block = max(1, min(block, count))
        rooms = torch.empty(2, block, len(items), dtype=states.dtype)  # used again and again: new ones cost a third
        for start in range(0, count, block):
            rows = slice(start, min(start + block, count))
            scores, shares = rooms[:, : rows.stop - start]
            if bias is None:
                torch.mm(states[rows], transposed, out=scores)
            else:
                torch.addmm(bias, states[rows], transposed, out=scores)
            torch.softmax(scores, dim=1, out=shares)
            own = target[rows].unsqueeze(1)
            total -= shares.gather(1, own).clamp(min=torch.finfo(shares.dtype).tiny).log().sum()
            shares.scatter_add_(1, own, -torch.ones_like(own, dtype=shares.dtype))
            torch.mm(shares, items, out=of_states[rows])
            of_items.addmm_(shares.T, states[rows])
        ctx.save_for_backward(of_states.div_(max(count, 1)), of_items.div_(max(count, 1)))
        return total / max(count, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_items = ctx.saved_tensors
        return grad * of_states, grad * of_items, None, None, None


def bpr_loss(targets: Tensor, user: Tensor, negatives: Tensor, *, column: Tensor, weight: Tensor) -> Tensor:
    """-log σ(target - one negative) (Rendle et al., UAI 2009, §4).

    Args:
        targets, user, negatives, weight: as in :func:`softmax_loss`; a masked negative gives no loss.
        column: [T] which negative each target is compared with.
    """
    drawn = gather(negatives.reshape(-1, 1), user * negatives.shape[1] + column).squeeze(1)
    return _mean(softplus(drawn - targets), weight)


def gbce_loss(targets: Tensor, user: Tensor, negatives: Tensor, *, beta: float, weight: Tensor) -> Tensor:
    """Generalised binary cross-entropy, which undoes the overconfidence of sampled negatives (gSASRec; Petrov and
    Macdonald, RecSys 2023, arXiv 2308.07192, §5): −(β log σ(target) + Σ log(1 − σ(negative))) / (M + 1).

    Args:
        targets, user, negatives, weight: as in :func:`softmax_loss`; a masked negative gives no loss.
        beta: of :func:`gbce_power`; 1 is binary cross-entropy.
    """
    rest = softplus(negatives).sum(dim=1, keepdim=True)
    return _mean((beta * softplus(-targets) + gather(rest, user).squeeze(1)) / (negatives.shape[1] + 1), weight)


def gbce_power(*, negatives: int, items: int, t: float) -> float:
    """β = α (t (1 − 1/α) + 1/α) with the sampling rate α = negatives / (items − 1) (gSASRec, §5.2).

    Args:
        t: calibration: 1 gives probabilities of the full softmax's kind, 0 plain binary cross-entropy.
    """
    rate = min(1.0, negatives / max(items - 1, 1))
    return rate * (t * (1 - 1 / rate) + 1 / rate)


def length_penalty(vectors: Tensor, *, l2: float) -> Tensor:
    """``l2`` times the mean squared length of [n, d] vectors."""
    return l2 * vectors.square().sum(dim=1).mean()


def _mean(loss: Tensor, weight: Tensor) -> Tensor:
    return (loss * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
