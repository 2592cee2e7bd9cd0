"""Settings of the ``evaluate`` stage."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from recdistill.retrieval.config import LevelConfig, QuestionsConfig
from recdistill.settings import Settings

Benchmark = Literal[
    "seq2item_vanilla",
    "seq2item_filtered",
    "copair_i2i",
    "copair_count_i2i",
    "gid_i2i",
    "gid_others_i2i",
    "content_i2i",
    "bijective",
    "ranking_consistency",
    "clustering",
    "separability",
    "new_items",
]
Baseline = Literal["popularity", "raw_content", "ridge", "kernel_ridge", "ease", "ease_content", "ials"]


class Seq2ItemConfig(QuestionsConfig):
    """Questions to users; the filtered benchmark asks them of a past that agrees with the target."""

    filtered_last: int = Field(1000, ge=1, description="pool of the filtered benchmark, before it is filtered")
    agree_by: Literal["tags", "clusters"] = Field("tags", description="what makes a past item agree with the target")
    agree_field: str | None = Field(None, description="the tags field compared; none = the first of the item table")
    agree_above: float = Field(0.0, ge=0, lt=1, description="agreement is a Jaccard similarity of tags above it")
    agree_clusters: int = Field(50, ge=2, description="k-means clusters of raw content, where clusters decide")


class I2IConfig(Settings):
    """Questions to items: pairs of items that a judge finds near."""

    neighbours: int = Field(10, ge=1, description="targets a query item")
    max_queries: int = Field(1000, ge=1, description="judged query items, drawn at random above it")
    min_support: int = Field(5, ge=1, description="users of the judge window behind an item of copair and gid")
    min_together: int = Field(2, ge=1, description="users of the judge window who consumed both items of a copair")


class JudgeConfig(Settings):
    """The judge's ID space: SPPMI-SVD of interactions that nothing was trained on."""

    dim: int = Field(64, ge=2, description="width")
    shift: float = Field(1.0, ge=1, description="k of SPPMI: PMI − log k, negative values cut off")
    max_items: int = Field(20_000, ge=10, description="items with the most support that are kept")
    max_per_user: int = Field(500, ge=2, description="items a user contributes, drawn at random above it")
    anchors: int = Field(200, ge=2, description="items whose neighbour rankings are compared between spaces")
    rivals: int = Field(500, ge=2, description="judged items that each ranking orders")
    top: int = Field(10, ge=1, description="k of the top-k overlap between two rankings")
    clusters: int = Field(20, ge=2, description="k-means clusters of a space, compared by NMI")
    cluster_items: int = Field(4000, ge=10, description="items clustered, drawn at random above it")


class RawContentConfig(Settings):
    """Untrained content."""

    weight: tuple[float, float] = Field(
        (0.1, 10.0), description="range searched of each further modality's weight against the first's"
    )


class EaseConfig(Settings):
    """EASE and its variant with content."""

    max_items: int = Field(20_000, ge=10, description="a larger catalogue skips EASE (8 · items² bytes, items³ time)")
    tuning_items: int = Field(4000, ge=10, description="items with the most support on which the settings are chosen")
    l2: tuple[float, float] = Field((5.0, 5000.0), description="range of λ searched")
    beta: tuple[float, float] = Field((1.0, 1000.0), description="range of the content kernel's weight searched")
    content_width: int = Field(256, ge=2, description="principal components of content in the kernel")


class IalsConfig(Settings):
    """Matrix factorisation by alternating least squares, fitted by the package ``implicit``."""

    dim: int = Field(64, ge=2, description="width of the factors")
    iterations: int = Field(15, ge=1, description="sweeps over users and items")
    alpha: tuple[float, float] = Field(
        (1.0, 100.0), description="range searched of a positive's weight against an unknown"
    )
    l2: tuple[float, float] = Field((0.1, 100.0), description="range of the penalty searched")


class RidgeConfig(Settings):
    """Linear regression from content to the ID teacher."""

    l2: tuple[float, float] = Field((1e-2, 1e4), description="range of the penalty searched")


class KernelRidgeConfig(Settings):
    """RBF kernel regression from content to the ID teacher."""

    l2: tuple[float, float] = Field((1e-2, 1e1), description="range of the penalty searched")
    gamma: tuple[float, float] = Field((0.2, 20.0), description="range of γ searched, in 1 / median distance²")
    confidence: tuple[float, float] = Field(
        (0.1, 20.0), description="range of s searched: an item with n interactions weighs n / (n + s)"
    )
    max_points: int = Field(5000, ge=10, description="kernel centres: the items with the most support")


class BaselinesConfig(Settings):
    """Which baselines stand beside the student, and how hard they are tuned."""

    include: tuple[Baseline, ...] = Field(
        ("popularity", "raw_content", "ridge", "kernel_ridge", "ease", "ease_content"),
        description="baselines made; beside these ials, for which the extra 'implicit' must be installed",
    )
    teacher: str = Field("id_teacher", description="table that ridge and kernel ridge regress on")
    trials: int = Field(12, ge=1, description="settings tried by each tuned baseline; give it what the student had")
    tune_at: int = Field(10, ge=1, description="settings are chosen by vanilla seq2item recall at this cutoff")
    raw_content: RawContentConfig = RawContentConfig()
    ease: EaseConfig = EaseConfig()
    ials: IalsConfig = IalsConfig()
    ridge: RidgeConfig = RidgeConfig()
    kernel_ridge: KernelRidgeConfig = KernelRidgeConfig()


class EvaluateConfig(Settings):
    """The evaluate stage: benchmarks, judges, baselines."""

    benchmarks: tuple[Benchmark, ...] = Field(get_args(Benchmark), description="benchmarks run")
    cutoffs: tuple[int, ...] = Field((1, 10, 25, 50, 100), min_length=1, description="k of recall at k")
    ndcg_at: int = Field(10, ge=1, description="k of NDCG")
    seq2item: Seq2ItemConfig = Seq2ItemConfig()
    i2i: I2IConfig = I2IConfig()
    judge: JudgeConfig = JudgeConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    new_items: LevelConfig = LevelConfig()
    bijective_pairs: int = Field(2000, ge=2, description="query-target pairs of the bijective benchmark")
    separability_pairs: int = Field(4000, ge=2, description="true pairs, and as many random ones")
