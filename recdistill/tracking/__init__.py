"""MLflow tracking that outlives its server: a journal on disk, and a process that sends it."""

from recdistill.contracts.journal import JournalledRun, read_runs
from recdistill.tracking.provenance import code_version, provenance_tags
from recdistill.tracking.tracker import DATA_FINGERPRINT, RunLog, Tracker, page, sync
from recdistill.tracking.values import flatten, metric_key, redact

__all__ = [
    "DATA_FINGERPRINT",
    "JournalledRun",
    "RunLog",
    "Tracker",
    "code_version",
    "flatten",
    "metric_key",
    "page",
    "provenance_tags",
    "read_runs",
    "redact",
    "sync",
]
