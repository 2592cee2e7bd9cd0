"""Settings of the ``distill`` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from recdistill.settings import Settings

# A teacher that this stage makes itself, of the content and the ID teacher: see distill/predicted.py.
KERNEL_RIDGE: Final = "kernel_ridge"
Rival = Literal["dropoutnet", "clcrec", "aldi"]
ChooseBy = Literal["recall", "gid", "both", "frontier", "all"]


class Weights(Settings):
    """Weights of the objectives; 0 leaves one out."""

    sequence_to_item: float = Field(1.0, ge=0, description="InfoNCE of mined query sequence → target item")
    relational: float = Field(
        1.0, ge=0, description="KL between the ID teachers' and the student's similarity structure"
    )
    alignment: float = Field(0.0, ge=0, description="distance of projected student vectors from the ID teachers'")
    item_to_item: float = Field(
        0.03, ge=0, description="InfoNCE between two views of an item under modality dropout: content perception"
    )
    soft_targets: float = Field(
        0.0, ge=0, description="KL between a teacher's and the student's ranking of a query's candidates"
    )
    topology: float = Field(
        0.0, ge=0, description="squared difference between the ID teachers' and the student's cosines (FTD)"
    )
    ordering: float = Field(0.0, ge=0, description="CoSENT: pairs of items in the order of the ID teachers' cosines")
    ranking: float = Field(
        0.0, ge=0, description="an item's nearest in the ID teachers, in their order, above all others (RRD)"
    )
    dropoutnet: float = Field(0.0, ge=0, description="of a rival's own training: see distill.rivals")
    clcrec: float = Field(0.0, ge=0, description="the same")
    aldi: float = Field(0.0, ge=0, description="the same")

    @classmethod
    def only(cls, **weights: float) -> Weights:
        """These objectives and no other."""
        return cls.model_validate(dict.fromkeys(cls.model_fields, 0.0) | weights)


# Objectives that read the ID teachers.
OF_TEACHERS = ("relational", "alignment", "topology", "ordering", "ranking")


class HardNegatives(Settings):
    """Further candidates of a query: near it, yet below the similarity that parts positives best (METHOD 3)."""

    count: int = Field(0, ge=0, description="mined for each query; 0: none")
    refresh_every: int = Field(100, ge=1, description="steps after which they are mined anew")
    queries: int = Field(10_000, ge=1, description="of a refresh, of the pairs that the steps until the next one meet")
    threshold_queries: int = Field(1_000, ge=1, description="queries by which the threshold λ* is found")


class SoftTargets(Settings):
    """Whose ranking of the candidates is learned: a query is the mean of the teacher's vectors of its items."""

    teacher: str = Field("sequence_teacher", description="a table of the teach stage")
    temperature: float = Field(0.1, gt=0, description="of the student's cosines")
    teacher_temperature: float = Field(
        0.5, gt=0, description="of the teacher's scores, in their standard deviations over a query's candidates"
    )


class AlignmentOptions(Settings):
    """How projected vectors are compared. Student and teacher are cut to the same prefix, and scaled to length 1."""

    distance: Literal["cosine", "mse"] = Field("cosine", description="1 − cosine, or squared distance")


class RankingOptions(Settings):
    """Lists of nearest items, and what is drawn of them."""

    anchors: int = Field(128, ge=1, description="items a step whose lists are learned, of those asked about")
    catalogue_anchors: int = Field(0, ge=0, description="and of all that the teacher knows, drawn evenly")
    depth: int = Field(50, ge=1, description="length of an item's list")
    drawn: int = Field(8, ge=1, description="items drawn of a list, the nearer the likelier")
    decay: float = Field(10.0, gt=0, description="item k of a list is drawn in proportion to exp(−k / this)")
    uninteresting: int = Field(128, ge=1, description="items of the teacher drawn evenly, that are on no list")
    temperature: float = Field(0.1, gt=0, description="of the student's cosines")

    @model_validator(mode="after")
    def _lists_are_long_enough(self) -> Self:
        if self.drawn > self.depth:
            raise ValueError(f"drawn ({self.drawn}) is more than a list's depth ({self.depth})")
        return self


# So many settings of each rival stand ready: the student may not be tried more often.
MOST_TRIALS_WITH_RIVALS = 6


class RivalOptions(Settings):
    """What the rivals' papers leave to be tuned."""

    dropout: float = Field(0.5, ge=0, le=1, description="DropoutNet: share of items whose preferences are dropped")
    negatives: int = Field(128, ge=1, description="CLCRec: negatives of a step, drawn evenly")
    hybrid: float = Field(0.5, ge=0, le=1, description="CLCRec: share of items shown to users by their content")
    balance: float = Field(0.5, ge=0, le=1, description="CLCRec: part of item ↔ content, against user ↔ item")
    rating: float = Field(0.1, ge=0, description="ALDI: weight of equal scores")
    ranking: float = Field(0.9, ge=0, description="ALDI: weight of equal margins")
    identification: float = Field(0.05, ge=0, description="ALDI: weight of items as distinct from others as known ones")
    frequency_cap: float = Field(4.0, gt=0, description="ALDI: M of the teacher's weight tanh(M · frequency / mean)")


class Phase(Settings):
    """A part of a training with some of its objectives."""

    share: float = Field(gt=0, le=1, description="of the steps; the last phase takes what is left")
    objectives: tuple[str, ...] = Field(min_length=1, description="those of the trial's weights that this phase has")

    @field_validator("objectives")
    @classmethod
    def _known(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(objectives) - set(Weights.model_fields))
        if unknown:
            raise ValueError(f"no objective {', '.join(unknown)}; there are {', '.join(Weights.model_fields)}")
        return objectives


class Trial(Settings):
    """What validation chooses among: the settings that no log tells beforehand."""

    weights: Weights = Weights()
    weighting: Literal["fixed", "uncertainty", "gradient_norm"] = Field(
        "fixed",
        description="the weights as they stand, or times what is learned of each objective's noise, or times what "
        "makes all objectives pull at the vectors as hard as the first",
    )
    phases: tuple[Phase, ...] = Field(
        (), description="one behind the other, within one schedule; none: all objectives from first to last"
    )
    teachers: tuple[str, ...] | None = Field(None, min_length=1, description="ID teachers; null: distill.teachers")
    temperature: float = Field(0.07, gt=0, description="of both InfoNCE objectives")
    log_q: float = Field(
        1.0,
        ge=0,
        le=1,
        description="strength of the sampling correction; 1 lets vectors carry popularity, 0 removes it",
    )
    history_power: float = Field(
        0.0, ge=0, le=1, description="a pair weighs its user's pair count to the minus this power"
    )
    confidence_power: float = Field(
        1.0,
        ge=0,
        description="an item counts by an ID teacher's confidence to this power (0: all that it knows alike, as "
        "ordering has it always)",
    )
    popularity_power: float = Field(
        0.0, ge=-1, le=1, description="and by its positives to this power (below 0: rare items more)"
    )
    catalogue_items: int = Field(
        0,
        ge=0,
        description="items of the whole catalogue drawn evenly a step, of which ID teachers are asked beside (but for "
        "ranking)",
    )
    simulated_cold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of a step's items that count as never met: their logQ is that of an item drawn evenly",
    )
    popularity: float = Field(
        0.0,
        ge=0,
        description="λ: an item's level is λ · log popularity, predicted from content for new items; goes with log_q 0",
    )
    hard_negatives: HardNegatives = HardNegatives()
    soft_targets: SoftTargets = SoftTargets()
    alignment: AlignmentOptions = AlignmentOptions()
    ranking: RankingOptions = RankingOptions()
    rival: RivalOptions = RivalOptions()

    @model_validator(mode="after")
    def _all_is_read(self) -> Self:
        weights = self.weights
        if self.simulated_cold and not (weights.sequence_to_item and self.log_q):
            raise ValueError("simulated_cold changes the logQ of sequence_to_item: it needs its weight, and log_q")
        if self.hard_negatives.count and not (weights.sequence_to_item or weights.soft_targets):
            raise ValueError("hard_negatives are candidates of sequence_to_item and soft_targets: neither has a weight")
        if self.catalogue_items and not any(getattr(weights, name) for name in OF_TEACHERS if name != "ranking"):
            raise ValueError("catalogue_items: no objective that asks ID teachers of them has a weight")
        if self.ranking.catalogue_anchors and not weights.ranking:
            raise ValueError("ranking.catalogue_anchors: ranking, whose anchors they are, has no weight")
        return self

    @property
    def distils(self) -> bool:
        """Whether the ID teachers are read."""
        return any(getattr(self.weights, name) for name in OF_TEACHERS)

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if sum(phase.share for phase in self.phases[:-1]) >= 1:
            raise ValueError("the phases' shares leave nothing for the last one")
        for phase in self.phases:
            if not any(getattr(self.weights, name) for name in phase.objectives):
                raise ValueError(f"all objectives of a phase have weight 0: {', '.join(phase.objectives)}")
        return self


def _predicted(*, ranking: float) -> Trial:
    """Distils what kernel ridge predicts of the ID teacher: new items are taught too, and noise is left out."""
    return Trial(
        temperature=0.05,
        weights=Weights(relational=1, ranking=ranking),
        teachers=(KERNEL_RIDGE,),
        catalogue_items=256,
    )


class DistillConfig(Settings):
    """How the student is trained (METHOD 4). The defaults suit a small frozen-tower student."""

    teachers: tuple[str, ...] = Field(
        ("id_teacher",),
        description="tables of the teach stage that ID-to-item objectives distil from, in trials that name none "
        "themselves (by default all do, so that this is read by none) and, the first, in rivals; beside them "
        "kernel_ridge, which predicts evaluate.baselines.teacher from content",
    )
    trials: tuple[Trial, ...] = Field(
        (_predicted(ranking=3.0), _predicted(ranking=1.0), Trial(temperature=0.05, weights=Weights(relational=0))),
        min_length=1,
        description="each is trained in the selection fit; validation picks one (one without ID teachers by default, "
        "so that a bad teacher is left out)",
    )
    choose_by: ChooseBy = Field(
        "all",
        description="what validation chooses by: seq2item recall@10, i2i recall@100 in an ID space of the validation "
        "window (gid), the geometric mean of both, the area under the frontier of all and new items, or the geometric "
        "mean of all three, of those that at least 30 questions tell; steps are always chosen by recall",
    )
    rivals: tuple[Rival, ...] = Field(
        (),
        description="published cold-start methods trained beside the student, on its content network (without a skip "
        "connection, which would take their vectors' lengths) and pairs and the first of the teachers, with as many "
        "trials as it has (at most 6); they are chosen by the frontier's area",
    )
    sequence_student: bool = Field(
        True,
        description="train beside the student one of mined sequences alone, by the same trials without their teachers "
        "(and, where these are then fewer, at other temperatures): what it lacks is what distillation from teachers "
        "gives",
    )
    prune_teachers: bool = Field(
        False,
        description="the best trial is trained again without each of its teachers in turn, and one that does not help "
        "by more than one standard error of the difference (paired by user; of gid by item) is left out; takes as "
        "many more trainings as there are teachers",
    )
    start: Literal["fresh", "pretrained"] = Field(
        "fresh", description="the student's first weights: drawn, or those that content-aware training left"
    )
    sequence_head: Literal["mean", "transformer"] = Field(
        "mean", description="how a query sequence becomes one vector in training"
    )
    steps: int = Field(400, ge=1)
    batch_size: int = Field(512, ge=2, description="interest pairs a step")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    relational_temperature: float = Field(
        0.1, gt=0, description="of student and teacher similarities in the relational term"
    )
    validate_every: int = Field(50, ge=1)
    patience: int = Field(
        4,
        ge=0,
        description="validations without a better score before training stops (0: never, as in a trial of phases)",
    )

    @model_validator(mode="after")
    def _rivals_stand_alone(self) -> Self:
        rivals = get_args(Rival)
        if any(getattr(trial.weights, name) for trial in self.trials for name in rivals):
            raise ValueError(f"weights of {', '.join(rivals)} are no part of the student: name them in distill.rivals")
        if self.rivals and len(self.trials) > MOST_TRIALS_WITH_RIVALS:
            raise ValueError(f"rivals have at most {MOST_TRIALS_WITH_RIVALS} trials, which would be fewer than trials")
        if self.rivals and self.teachers[0] == KERNEL_RIDGE:
            raise ValueError(f"rivals learn from the first of the teachers, which {KERNEL_RIDGE} cannot be for them")
        return self

    @model_validator(mode="after")
    def _teachers_are_read(self) -> Self:
        if self.teachers != type(self).model_fields["teachers"].default and not self._reads_teachers:
            raise ValueError(
                "no trial and no rival reads distill.teachers: name teachers in distill.trials.N.teachers (null there "
                f"stands for these), or in evaluate.baselines.teacher the one that {KERNEL_RIDGE} predicts"
            )
        return self

    @property
    def _reads_teachers(self) -> bool:
        return bool(self.rivals) or any(trial.distils and trial.teachers is None for trial in self.trials)

    def teachers_of(self, trial: Trial) -> tuple[str, ...]:
        """The trial's ID teachers."""
        return self.teachers if trial.teachers is None else trial.teachers

    def named_teachers(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Key and name of every teacher that is read."""
        for place, trial in enumerate(self.trials):
            for at, name in enumerate(trial.teachers or () if trial.distils else ()):
                yield ("trials", place, "teachers", at), name
            if trial.weights.soft_targets:
                yield ("trials", place, "soft_targets", "teacher"), trial.soft_targets.teacher
        for name in self.teachers if self._reads_teachers else ():
            yield ("teachers",), name
