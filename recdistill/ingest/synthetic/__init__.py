"""The planted world: a log, texts, images and sounds of which the truth is known."""

from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.stage import write_world
from recdistill.ingest.synthetic.truth import Truth

__all__ = ["Truth", "WorldConfig", "write_world"]
