"""``python -m gan_lib`` is ``gan-lib``."""

from gan_lib.cli import app

app(prog_name="gan-lib")
