"""Settings of the ``pretrain`` stage (METHOD 3; SAIL-Embedding, arXiv 2510.12709, 3.1 and 3.3.1–3.3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from recdistill.settings import Settings


class Weights(Settings):
    """Weights of the objectives; 0 leaves one out."""

    nce: float = Field(1.0, ge=0, description="InfoNCE of query → target, over the prefixes")
    cosent: float = Field(0.0, ge=0, description="CoSENT, on datasets whose pairs are graded")
    micl: float = Field(0.0, ge=0, description="InfoNCE within one modality, against the strongest one doing it all")
    late_fusion: float = Field(0.0, ge=0, description="InfoNCE of a gated mixture of the vision-only and whole vector")
    patterns: float = Field(0.0, ge=0, description="InfoNCE between subsets of modalities, drawn anew every step")

    @model_validator(mode="after")
    def _something(self) -> Weights:
        if not any(dict(self).values()):
            raise ValueError("all objectives have weight 0: nothing would be learned")
        return self


class Phase(Settings):
    """One progressive stage (3.3.1): what is trained on, by which objectives, how fast."""

    name: str = Field(min_length=1)
    datasets: tuple[str, ...] | None = Field(None, min_length=1, description="pair datasets; null: all")
    steps: int = Field(400, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="peak, reached after warming up")
    weights: Weights = Weights()
    specialised: bool = Field(True, description="every batch from one dataset, drawn anew each step; else mixed")
    sampling: Literal["uniform", "size", "adaptive"] = Field(
        "uniform",
        description="chance of a dataset: equal, by its pairs, or by how near it is to what is asked (3.1.3)",
    )
    hard_negatives: int = Field(0, ge=0, description="mined for each query, of similarity below the dataset's λ*")
    refresh_every: int = Field(100, ge=1, description="steps after which hard negatives are mined anew")
    patterns: int = Field(4, ge=1, description="pairs of modality subsets drawn a step, if weights.patterns is not 0")


class Sides(Settings):
    """What the student is told before a query and before a target: names among ``student.instructions``."""

    query: str | None = None
    target: str | None = None


class BalancingConfig(Settings):
    """Adaptive balancing of the datasets."""

    benchmarks: tuple[str, ...] | None = Field(
        None, min_length=1, description="datasets whose held-out pairs are what is asked; null: all"
    )
    samples: int = Field(10_000, ge=1, description="pairs of a dataset that are embedded")
    centroids: int = Field(32, ge=1, description="of k-means, a dataset")
    regularisation: float = Field(0.1, gt=0, description="entropic, of the transport plan")
    temperature: float = Field(0.1, gt=0, description="of the softmax over the datasets")


class PretrainConfig(Settings):
    """Content-aware training of the student."""

    phases: tuple[Phase, ...] = Field((Phase(name="all"),), min_length=1, description="one behind the other")
    instructions: dict[str, Sides] = Field({}, description="those of a dataset's two sides; the others have none")
    uninstructed: float = Field(
        0.1, ge=0, lt=1, description="share of batches without instructions, so that vectors without serve as well"
    )
    instruction: str | None = Field(
        None, description="of the item vectors that are written, judged and exported: a name; null: none"
    )
    batch_size: int = Field(256, ge=2, description="pairs a batch, of all processes together")
    accumulation: int = Field(1, ge=1, description="batches whose gradients make one step")
    cached_chunk: int | None = Field(
        None, ge=1, description="items encoded with gradients at one time: large batches in the memory of a small one"
    )
    precision: Literal["no", "bf16"] = Field("no", description="of the student's forward")
    gradient_checkpointing: bool = Field(False, description="of trained towers and fusers: time for memory")
    warm_up: float = Field(0.1, ge=0, lt=1, description="share of a phase's steps; a cosine to zero follows")
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    temperature: float = Field(0.07, gt=0, description="where each dataset's learned temperature begins")
    temperature_bounds: tuple[float, float] = Field((0.02, 0.5), description="between which it stays")
    held_out: float = Field(0.05, gt=0, lt=1, description="share of a dataset's pairs that validate")
    max_held_out: int = Field(1000, ge=1, description="pairs of a dataset that validate, at most")
    validate_every: int = Field(50, ge=1)
    patience: int = Field(4, ge=0, description="validations without a better score before a phase ends (0: never)")
    threshold_queries: int = Field(1000, ge=1, description="queries by which a dataset's λ* is found")
    balancing: BalancingConfig = BalancingConfig()

    def datasets(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Key and name of each pair dataset that the settings mention."""
        for place, phase in enumerate(self.phases):
            for at, name in enumerate(phase.datasets or ()):
                yield ("phases", place, "datasets", at), name
        for name in self.instructions:
            yield ("instructions", name), name
        for at, name in enumerate(self.balancing.benchmarks or ()):
            yield ("balancing", "benchmarks", at), name

    @model_validator(mode="after")
    def _consistent(self) -> PretrainConfig:
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError("phases have the same name")
        low, high = self.temperature_bounds
        if not 0 < low <= self.temperature <= high:
            raise ValueError(f"temperature ({self.temperature}) must lie within its bounds ({low}, {high})")
        return self
