"""The command line: ``gan-lib explain``, ``report``, ``insert``, ``run``, ``sweep``, ``figures``, ...

What takes long to import, torch first of all, is imported by the commands, when they run.
"""

from gan_lib.cli import concepts, explain, insert, project, report
from gan_lib.cli.base import app

__all__ = ["app", "concepts", "explain", "insert", "project", "report"]
