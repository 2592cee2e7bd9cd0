"""Cutting a log into training, validation and test without leaks."""

from recdistill.split.config import SplitConfig
from recdistill.split.stage import split

__all__ = ["SplitConfig", "split"]
