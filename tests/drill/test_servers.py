"""Servers listen on this machine alone unless they are told otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jupyter_server.serverapp import ServerApp
from typer.testing import CliRunner

from gan_lib.cli import app

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("command", "option"), [("lab", "--ServerApp.ip"), ("study", "--Voila.ip")])
def test_addresses(monkeypatch, command, option):
    started = []

    def run(command, **_):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for given, address in (([], "127.0.0.1"), (["--address", "0.0.0.0"], "0.0.0.0")):
        done = CliRunner().invoke(app, [command, *given, "--root", str(ROOT)])
        assert done.exit_code == 0, done.output
        assert f"{option}={address}" in started[-1]
        assert not any("token=" in own or "password" in own for own in started[-1])


def test_photographs_of_any_camera_can_be_uploaded(monkeypatch):
    """Jupyter's server drops the connection at a message of more than 10 MB, and says nothing."""
    started = []
    monkeypatch.setattr(
        subprocess, "run", lambda own, **_: started.append(own) or subprocess.CompletedProcess(own, 0)
    )
    assert CliRunner().invoke(app, ["lab", "--root", str(ROOT)]).exit_code == 0
    server = ServerApp()
    server.parse_command_line(started[0][4:])
    assert server.tornado_settings == {"websocket_max_message_size": 104_857_600}
    assert server.ip == "127.0.0.1"
