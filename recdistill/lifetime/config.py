"""Settings of the lifetime proxies."""

from __future__ import annotations

from pydantic import Field

from recdistill.settings import Settings


class LifetimeConfig(Settings):
    """Lifetime proxies."""

    signal_days: int = Field(7, ge=1, description="length of the window whose signals predict; less on short logs")
    sharpness: float = Field(
        1.0, ge=0, description="power of the predicted odds in the share of attention a shown item gets under a ranker"
    )
    clip: float = Field(
        20.0, gt=0, description="largest importance weight of a shown item; what it cuts is made up for by the others"
    )
