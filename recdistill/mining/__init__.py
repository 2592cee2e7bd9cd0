"""User-interest mining: (query sequence → target) pairs from a user's history, by four perspectives."""

from recdistill.mining.config import MiningConfig
from recdistill.mining.stage import mine

__all__ = ["MiningConfig", "mine"]
