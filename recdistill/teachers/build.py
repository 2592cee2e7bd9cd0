"""From settings to untrained teachers; behind this line nothing knows the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig, Sharding, SlotsConfig
from recdistill.teachers.id_teacher import IdTeacher
from recdistill.teachers.managed import ManagedIds
from recdistill.teachers.positives import Positives, UserBatches, UserVectors
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.tables import SparseFeature
from recdistill.training import Stateful
from recdistill.world import World


class Teacher(Protocol):
    """A model that is trained step by step and has vectors of items, perhaps of users; :class:`IdTeacher` says more."""

    @property
    def state(self) -> Mapping[str, Stateful]: ...
    def step(self, step: int) -> Mapping[str, float]: ...
    def rows(self) -> Tensor: ...
    def vectors(self) -> Tensor: ...
    def user_vectors(self, vectors: Tensor, blocks: Callable[[], Iterator[Positives]]) -> UserVectors | None: ...


def build_id_teacher(
    config: IdTeacherConfig,
    users: UserBatches,
    *,
    seed: int,
    features: Sequence[SparseFeature] = (),
    world: World = World(),
    sharding: Sharding = "row_wise",
) -> IdTeacher:
    """The ID teacher with its tables' initial values."""
    return IdTeacher(
        users,
        dim=config.dim,
        geometry=config.geometry,
        temperature=config.temperature,
        user_form=config.user_form,
        loss=config.loss,
        full_softmax=config.slots is None and len(users.item_ids) <= config.full_softmax_up_to,
        negatives=config.negatives,
        negatives_power=config.negatives_power,
        logq=config.logq,
        history=config.history,
        behaviour_weight=config.behaviour_weight,
        dropout=config.dropout,
        batch=config.batch,
        learning_rate=config.learning_rate,
        init_scale=config.init_scale,
        l2=config.l2,
        seed=seed,
        features=features,
        slots=_managed(config.slots) if config.slots is not None else None,
        world=world,
        sharding=sharding,
    )


def build_sequence_teacher(
    config: SequenceTeacherConfig,
    users: UserBatches,
    *,
    seed: int,
    world: World = World(),
    sharding: Sharding = "row_wise",
) -> SequenceTeacher:
    """The sequence teacher with its initial values."""
    return SequenceTeacher(
        users,
        dim=config.dim,
        geometry=config.geometry,
        temperature=config.temperature,
        length=config.length,
        block=config.block,
        loss=config.loss,
        gbce_t=config.gbce_t,
        layers=config.layers,
        heads=config.heads,
        eras=config.eras,
        full_softmax=len(users.item_ids) <= config.full_softmax_up_to,
        negatives=config.negatives,
        negatives_power=config.negatives_power,
        logq=config.logq,
        pooled_weight=config.pooled_weight,
        dropout=config.dropout,
        batch=config.batch,
        learning_rate=config.learning_rate,
        init_scale=config.init_scale,
        l2=config.l2,
        dense_learning_rate=config.dense_learning_rate,
        weight_decay=config.weight_decay,
        seed=seed,
        world=world,
        sharding=sharding,
    )


def _managed(config: SlotsConfig) -> ManagedIds:
    return ManagedIds(config.count, policy=config.policy, admit_after=config.admit_after, every=config.every)
