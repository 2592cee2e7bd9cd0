"""Pair datasets query → target of what a log, a catalogue, teachers and a query table offer (METHOD 3)."""

from recdistill.pairs.config import PairsConfig
from recdistill.pairs.stage import pair

__all__ = ["PairsConfig", "pair"]
