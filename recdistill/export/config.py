"""Settings of the ``export`` stage."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from recdistill.features.config import MatchConfig, ReactionConfig, SemanticIdConfig
from recdistill.settings import Settings


class ExportConfig(Settings):
    """What the exported tables hold."""

    centre: bool = Field(True, description="take the catalogue's mean off the vectors before semantic IDs and cosines")
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    continue_ids: Path | None = Field(
        None,
        description="semantic_ids.parquet of an export in another run folder: its codes go on meaning what rankers "
        "have learned of them, as far as the vectors let them",
    )
    match: MatchConfig = MatchConfig()
    reaction: ReactionConfig = Field(
        ReactionConfig(),
        description="columns of reactions, which are exported where the log has negatives of its own, as "
        "rank.labels.min_negative_share says",
    )
    max_match_rows: int = Field(
        1_000_000, ge=1, description="newest events of the test window that get match features and reactions"
    )
    mlflow_model: bool = Field(True, description="also write the student as an MLflow model that embeds new items")
