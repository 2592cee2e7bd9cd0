"""What ranking and recall teams take away: tables, the student, and an MLflow model."""

from recdistill.export.config import ExportConfig
from recdistill.export.stage import export

__all__ = ["ExportConfig", "export"]
