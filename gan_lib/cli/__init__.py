"""The command line: ``gan-lib explain``, ``invert``, ``report``, ``run``, ``sweep``, ``figures``, ...

What takes long to import, torch first of all, is imported by the commands, when they run.
"""

from gan_lib.cli import explain, invert, project, report
from gan_lib.cli.base import app

__all__ = ["app", "explain", "invert", "project", "report"]
