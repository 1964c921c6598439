"""What a CNN relies on, and whether its explanations can be trusted, in one page to send."""

from gan_lib.reporting.case import Case, read_split
from gan_lib.reporting.folder import photos_of
from gan_lib.reporting.run import Report, check_folder, write_report

__all__ = ["Case", "Report", "check_folder", "photos_of", "read_split", "write_report"]
