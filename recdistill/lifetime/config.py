"""Settings of the lifetime proxies."""

from __future__ import annotations

from pydantic import Field

from recdistill.settings import Settings


class LifetimeConfig(Settings):
    """Lifetime proxies."""

    signal_days: int = Field(7, ge=1, description="length of the window whose signals predict; less on short logs")
    sharpness: float = Field(
        3.0,
        ge=0,
        description="how much more attention a ranker gives to what it puts first: a window's first item has up to "
        "exp(sharpness) times that of its last, by rank",
    )
