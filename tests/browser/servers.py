"""Jupyter servers for tests, which end with what they have started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PICTURES = Path(__file__).parent.parent.parent / "data" / "screenshots"
STARTED = 60  # seconds that a server may take
PRIVATE = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[str]:
    """A Jupyter server with its own configuration; its address, once it answers.

    All that it has started ends with the block.
    """
    private = {name: str(folder / name.lower()) for name in PRIVATE}
    known = {name: value for name, value in os.environ.items() if name != "GAN_LIB_HEADLESS"}
    log = folder / "server.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**known, **private, **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the block ends
    try:
        wait_until_it_answers(address, process, log)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        signal.signal(signal.SIGTERM, before)


def wait_until_it_answers(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + STARTED
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/static/favicons/favicon.ico", timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no server at {address}:\n{log.read_text()[-3000:]}")
