"""Content-aware training: pair datasets teach the student what belongs together, stage by stage (METHOD 3)."""

from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.stage import pretrain

__all__ = ["PretrainConfig", "pretrain"]
