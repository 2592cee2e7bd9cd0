"""From logs, catalogues and media as they come to canonical tables that satisfy their contracts."""

from recdistill.ingest.config import DataConfig
from recdistill.ingest.stage import check_tables, ingest, input_fingerprint

__all__ = ["DataConfig", "check_tables", "ingest", "input_fingerprint"]
