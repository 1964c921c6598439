from gan_lib.cli import concepts, explain, insert, invert, project, report
from gan_lib.cli.base import app

__all__ = ["app", "concepts", "explain", "insert", "invert", "project", "report"]
