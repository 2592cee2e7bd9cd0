"""What a run found, as one HTML page and as tables for a terminal."""

from recdistill.report.page import build_report
from recdistill.report.terminal import Comparison, compare, summary_table

__all__ = ["Comparison", "build_report", "compare", "summary_table"]
