"""What a CNN relies on, and whether its explanations can be trusted, in one page to send."""

from gan_lib.reporting.case import Case, read_split
from gan_lib.reporting.run import Report, write_report

__all__ = ["Case", "Report", "read_split", "write_report"]
