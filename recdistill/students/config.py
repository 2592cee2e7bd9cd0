"""Settings of the ``encode`` stage and of the student: the ``encoders`` and ``student`` sections of a recipe."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from recdistill.settings import Settings

Modality = Literal["audio", "image", "text", "structured"]
# In the order in which a student reads them (METHOD 2: audio, vision, text; ours: structured fields behind).
MODALITIES: tuple[Modality, ...] = ("audio", "image", "text", "structured")
Tuning = Literal["lora", "full"]
PACKAGED = "packaged:"


class TextEncoderConfig(Settings):
    """The text tower, and the words themselves beside it."""

    name: str = Field(
        "packaged:minilm", description="packaged:minilm, or a Hugging Face name or folder of a text model"
    )
    tokens: Literal["pooled", "fields"] = Field(
        "pooled",
        description="one vector of all fields, or one a field: a field can then be missing or be dropped alone",
    )
    output: Literal["hidden", "embeddings"] = Field(
        "hidden",
        description="mean of the last hidden states, or of the token embeddings alone (cheap, of a language model)",
    )
    max_tokens: int = Field(256, ge=8, description="longer texts are cut; the model's own limit applies too")
    lexical: int = Field(
        128, ge=0, le=1024, description="width of the TF-IDF-SVD of the words, beside the tower's; 0 leaves it out"
    )


class ImageEncoderConfig(Settings):
    """The vision tower."""

    name: str = Field(
        "packaged:efficientnet-lite0",
        description="packaged:efficientnet-lite0, or a Hugging Face name or folder (CLIP, SigLIP, ViT …)",
    )
    pixels: int = Field(
        160,
        ge=32,
        le=512,
        multiple_of=32,
        description="side of the packaged tower's input; others have their own processor",
    )
    tokens: Literal["pooled", "patches"] = Field("pooled", description="one vector a frame, or every patch's")
    frames: int = Field(4, ge=1, description="at most so many frames an item, evenly spaced among those it has")
    width: int | None = Field(256, ge=1, description="principal components kept; null keeps the tower's own width")
    max_megapixels: float = Field(64.0, gt=0, description="larger pictures count as unreadable")


class AudioEncoderConfig(Settings):
    """The audio tower: 10 s pieces, their mean."""

    name: str = Field(
        "packaged:logmel",
        description="packaged:logmel (fixed statistics), or a Hugging Face name or folder (CLAP, AST …)",
    )
    width: int | None = Field(128, ge=1, description="principal components kept; null keeps the tower's own width")
    clips: int = Field(4, ge=1, description="at most so many clips an item, evenly spaced among those it has")
    max_seconds: float = Field(900.0, gt=0, description="longer clips count as unreadable")


class StructuredConfig(Settings):
    """Tags and numbers: fields of few values as they are, others hashed and reduced, numbers in bins."""

    tokens: Literal["pooled", "fields"] = Field(
        "pooled", description="one vector of all fields, or one a tag field and one of the numbers"
    )
    width: int = Field(128, ge=1, le=1024, description="width of the TF-IDF-SVD of hashed (field, value)")
    direct_values: int = Field(
        64, ge=0, description="a tag field with at most so many values is a multi-hot of its own"
    )
    number_bins: int = Field(8, ge=0, description="soft bins of a number, at its quantiles; 0 leaves the number alone")


class EncodersConfig(Settings):
    """What of an item's content is looked at, by what. A modality set to null is left out."""

    text: TextEncoderConfig | None = TextEncoderConfig()
    image: ImageEncoderConfig | None = ImageEncoderConfig()
    audio: AudioEncoderConfig | None = AudioEncoderConfig()
    structured: StructuredConfig | None = StructuredConfig()
    buckets_log2: int = Field(
        15, ge=8, le=20, description="words and (field, value) are hashed into 2^this buckets each"
    )
    fit_items: int = Field(
        200_000, ge=2, description="the TF-IDF-SVDs are fitted on at most so many items, drawn evenly"
    )
    max_media_mb: float = Field(64.0, gt=0, description="larger files count as unreadable")
    cache: Path | None = Field(
        None, description="folder of cached features; default RECDISTILL_CACHE, else ~/.cache/recdistill"
    )

    @model_validator(mode="after")
    def _something(self) -> EncodersConfig:
        if not (self.text or self.image or self.audio or self.structured):
            raise ValueError("all modalities are null: nothing of an item would be seen")
        return self


class SkipConfig(Settings):
    """Untrained content beside what is learned (a skip connection): content perception that no objective can lose.

    Of modalities whose towers are frozen, tags and numbers included.
    """

    share: float = Field(0.2, gt=0, lt=1, description="of a vector's squared length, and so of every cosine")
    columns: float = Field(
        0.5, gt=0, lt=1, description="share of the student's dim, behind the learned columns: principal components"
    )
    weights: dict[Modality, float] | None = Field(
        None,
        description="what modalities count in it, 1 where not named; null: what suits raw content best on the "
        "validation window (content-aware training, which has none: all alike; distillation weighs them anew)",
    )


class StudentConfig(Settings):
    """The student's shape."""

    kind: Literal["linear", "fusion"] = Field(
        "linear", description="one linear map, or perceiver + bidirectional Transformer"
    )
    dim: int = Field(256, ge=2, description="width of the item vectors, a skip connection's columns included")
    prefixes: tuple[int, ...] = Field(
        (32, 64),
        description="narrower widths that are trained to serve as well (Matryoshka); those not below dim are left out",
    )
    skip: SkipConfig | None = Field(
        SkipConfig(), description="a skip connection from content; null: every column is learned"
    )
    modalities: tuple[Modality, ...] | None = Field(
        None, min_length=1, description="which to read; null reads all that were encoded"
    )
    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="chance that a present modality is hidden in training; one always stays"
    )
    field_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="chance that a text or structured field is dropped in training, where fields are tokens; one stays",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="of the features, and within the fusion; makes two views of one modality differ"
    )
    instructions: dict[str, str] = Field(
        default_factory=dict,
        description="name → prompt that tells the student the task or the side; encode(..., instruction=name) uses it",
    )
    width: int = Field(128, ge=8, description="fusion: width of its tokens; a fuser by name has its own")
    depth: int = Field(2, ge=1, description="fusion: Transformer blocks; a fuser by name has its own")
    heads: int = Field(4, ge=1, description="fusion: attention heads; of a fuser by name the perceiver's only")
    queries: int = Field(16, ge=1, description="fusion: the perceiver's learned queries")
    attention: Literal["bidirectional", "causal"] = Field(
        "bidirectional", description="fusion: whether a token sees those behind it"
    )
    fuser: str | None = Field(
        None,
        description="fusion: Hugging Face name or folder of a decoder (Qwen3 …) in place of the small Transformer",
    )
    fuser_training: Literal["full", "lora", "frozen"] = Field(
        "full", description="what of a fuser by name is trained: all, low-rank adapters of its projections, nothing"
    )
    tuning: dict[Modality, Tuning] = Field(
        {},
        description="towers that are trained with the student, by modality: lora (adapters alone) or full; "
        "the others are frozen, and their features cached",
    )
    lora_rank: int = Field(8, ge=1, description="of the adapters of fuser and towers")
    lora_alpha: float = Field(16.0, gt=0, description="adapters weigh this over their rank")
    tower_learning_rate: float = Field(
        0.05, gt=0, le=1, description="of tuned towers, as a share of the student's other weights'"
    )

    def reads(self, encoded: Collection[str]) -> list[Modality]:
        """What is read of the modalities that were encoded, in the students' order."""
        return [m for m in MODALITIES if m in encoded and (self.modalities is None or m in self.modalities)]

    @model_validator(mode="after")
    def _consistent(self) -> StudentConfig:
        if "structured" in self.tuning:
            raise ValueError("tuning names structured, which has no tower")
        if self.skip is not None and self.modalities is not None and set(self.modalities) <= set(self.tuning):
            raise ValueError(
                "skip keeps untrained content, but tuning trains the towers of all modalities: set skip null"
            )
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if any(prefix < 1 for prefix in self.prefixes):
            raise ValueError("prefixes must be positive")
        if self.modalities is not None and len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities repeat")
        if self.fuser is None and self.fuser_training != "full":
            raise ValueError(f"fuser_training '{self.fuser_training}' is for a fuser by name; none is given")
        if self.fuser is not None and self.kind != "fusion":
            raise ValueError("a fuser needs kind 'fusion'")
        return self
