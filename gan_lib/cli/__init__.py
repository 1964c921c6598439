"""The command line: ``gan-lib explain``, ``report``, ``run``, ``sweep``, ``figures``, ``results``, ...

What takes long to import, torch first of all, is imported by the commands, when they run.
"""

from gan_lib.cli import concepts, explain, project, report
from gan_lib.cli.base import app

__all__ = ["app", "concepts", "explain", "project", "report"]
