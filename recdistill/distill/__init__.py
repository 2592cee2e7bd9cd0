"""Collaboration-aware training: interests and ID teachers are distilled into the content student."""

from recdistill.distill.config import DistillConfig
from recdistill.distill.stage import distill

__all__ = ["DistillConfig", "distill"]
