"""Making a tower's network trainable: all of it, or low-rank adapters beside its linear layers.

LoRA (Hu et al. 2021, arXiv 2106.09685) through ``peft``: W x becomes W x + (α / r) B A x, with B = 0 at first, so that
training starts at the frozen tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.errors import UserError
from recdistill.students.config import PACKAGED, Modality, StudentConfig, Tuning
from recdistill.students.encoders.network import Inputs, Network
from recdistill.students.featurizer.featurizer import Featurizer


def plan_tuning(
    network: Network, sample: Inputs, *, how: Tuning, rank: int, alpha: float, modality: str
) -> dict[str, Any]:
    """What of a frozen network is trained; JSON-able, for :func:`make_trainable`.

    Weights on which the vectors do not depend (BERT's pooler, a head that is not asked) are left alone: a gradient
    never comes to them, which distributed training would wait for.

    Args:
        sample: inputs of any text, picture or sound.
        modality: whose tower it is, for the message.

    Raises:
        UserError: adapters are asked of a tower without linear layers.
    """
    used = _used(network, sample)
    if how == "full":
        return {"how": how, "unused": sorted({name for name, _ in network.named_parameters()} - used)}
    targets = [layer for layer in _linear_layers(network) if f"{layer}.weight" in used]
    if not targets:
        raise UserError(
            f"student.tuning.{modality}: lora, but the {modality} tower has no linear layers for adapters",
            remedy=f"tune it in full: student.tuning.{modality}=full",
        )
    return {"how": how, "layers": targets, "rank": rank, "alpha": alpha}


def make_trainable(network: Network, plan: Mapping[str, Any]) -> None:
    """Carry out a plan on a network of the architecture that it was made for; all else is frozen."""
    if plan["how"] == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=plan["rank"], lora_alpha=plan["alpha"], target_modules=list(plan["layers"]))
        inject_adapter_in_model(config, network)
        network.frozen = tuple(name for name, _ in network.named_parameters() if ".lora_" not in name)
    else:
        network.frozen = tuple(plan["unused"])
    network.requires_grad_(True).train(network.training)


def parameter_groups(
    trained: nn.Module, towers: nn.Module, *, learning_rate: float, share: float
) -> list[dict[str, Any]]:
    """An optimizer's groups: the weights that are new, and those of towers, which know something already.

    Args:
        trained: all that is trained, ``towers`` included.
        share: the towers' learning rate as a share of the rest's.
    """
    of_towers = {id(weight) for weight in towers.parameters()}
    weights = [weight for weight in trained.parameters() if weight.requires_grad]
    known = [weight for weight in weights if id(weight) in of_towers]
    groups = [{"params": [weight for weight in weights if id(weight) not in of_towers], "lr": learning_rate}]
    return [*groups, {"params": known, "lr": share * learning_rate}] if known else groups


class TrainedState:
    """A module's state without the weights that are not trained, for checkpoints: of adapters beside a large tower, the
    adapters."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        """As the module's."""
        return {name: value for name, value in self._module.state_dict().items() if name not in self._frozen}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Take what :meth:`state_dict` gave.

        Raises:
            ValueError: it is another module's.
        """
        missing, unexpected = self._module.load_state_dict(state_dict, strict=False)
        lacking = set(missing) - self._frozen
        if unexpected or lacking:
            raise ValueError(f"not this module's state: {len(unexpected)} unknown, {len(lacking)} missing")


def tuned_towers(config: StudentConfig, featurizer: Featurizer, *, read: Sequence[Modality]) -> dict[Modality, Tuning]:
    """Which towers are trained, of the modalities that a student reads.

    Raises:
        UserError: one of them is not read, or its tower has no weights.
    """
    for modality in config.tuning:
        if modality not in read or modality not in featurizer.towers:
            raise UserError(
                f"student.tuning names {modality}, which the student does not read (it reads: {', '.join(read)})",
                remedy="leave it out, or encode that modality and name it in student.modalities",
            )
        name = getattr(featurizer.encoders, modality).name
        if name == f"{PACKAGED}logmel":
            raise UserError(
                f"student.tuning.{modality}: {name} has no weights to train",
                remedy=f"leave it out, or name an audio model in encoders.{modality}.name",
            )
    return dict(config.tuning)


@torch.enable_grad()
def _used(network: Network, sample: Inputs) -> set[str]:
    """Names of the weights that a sample's vectors depend on."""
    weights = dict(network.named_parameters())
    network.requires_grad_(True)
    try:
        vectors: Tensor = network(**sample)
        found = torch.autograd.grad(vectors.sum(), list(weights.values()), allow_unused=True)
    finally:
        network.requires_grad_(False)
    return {name for name, gradient in zip(weights, found, strict=True) if gradient is not None}


def _linear_layers(network: Network) -> list[str]:
    """Those that are called as layers: nn.MultiheadAttention reads its output layer's weight without calling it."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    inside = {
        id(part)
        for module in network.modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
    }
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in inside
    ]
