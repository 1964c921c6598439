"""``lab`` and ``study`` as they are started: where they listen, and what a visitor can make them do."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from browser.servers import free_port
from drill.stage import Command, marked, write_notebook
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

PATIENCE = 120


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notebooks/pages").mkdir(parents=True)
    write_notebook(tmp_path / "notebooks/pages/user_study.ipynb", "secret = 7\nprint('the page is here')")
    (tmp_path / "notebooks/answers.csv").write_text("secret answers")
    (tmp_path / "notebooks/pages/answers.csv").write_text("secret answers")
    return tmp_path


def listening(mark: str) -> set[str]:
    found = set()
    for own in marked(mark):
        for connection in own.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


def fetched(address: str) -> tuple[int, str]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


async def asked(port: int, kernel: str, canary: Path, cookie: str) -> list[str]:
    """Ask a page's kernel to run code, as its browser could; what comes back."""
    address = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels?session_id=me"
    socket = await websocket_connect(HTTPRequest(address, headers={"Cookie": cookie}))
    header = {"msg_id": "1", "username": "x", "session": "me", "version": "5.3", "date": ""}
    for kind, content in (
        ("execute_request", {"code": f"open({str(canary)!r}, 'w')", "silent": False}),
        ("inspect_request", {"code": "secret", "cursor_pos": 3, "detail_level": 1}),
        ("complete_request", {"code": "sec", "cursor_pos": 3}),
        ("history_request", {"output": True, "raw": True, "hist_access_type": "tail", "n": 10}),
    ):
        own = {"header": {**header, "msg_type": kind, "msg_id": kind}, "parent_header": {}, "metadata": {}}
        await socket.write_message(json.dumps({**own, "content": content, "channel": "shell", "buffers": []}))
    came = []
    try:
        while True:
            message = await asyncio.wait_for(socket.read_message(), 5)
            if message is None:
                break
            came.append(message if isinstance(message, str) else "")
    except TimeoutError:
        pass
    socket.close()
    return came


@pytest.mark.timeout(600)
def test_the_study_listens_here_shows_its_page_and_runs_nothing_else(folder):
    port, canary = free_port(), folder / "canary"
    command = Command(folder, "study", "--port", str(port))
    try:
        status, page = fetched(f"http://127.0.0.1:{port}/")
        assert status == 200, page
        assert listening(command.mark) == {"127.0.0.1"}
        kernel = re.search(r'"kernelId": *"([0-9a-f-]{36})"', page)
        assert kernel, page[:2000]
        came = asyncio.run(asked(port, kernel[1], canary, ""))
        assert not canary.exists(), "a visitor has run code"
        replies = ("execute_reply", "inspect_reply", "complete_reply", "history_reply")
        assert not [own for own in came if any(reply in own for reply in replies)]
        for path in (
            "answers.csv",
            "voila/files/answers.csv",
            "files/answers.csv",
            "voila/files/pages/answers.csv",
            "api/contents",
            "api/kernels",
            "voila/files/user_study.ipynb",
        ):
            status, text = fetched(f"http://127.0.0.1:{port}/{path}")
            assert "secret answers" not in text, path
            assert kernel[1] not in text, "another participant's kernel is named"
    finally:
        command.kill(signal.SIGINT)
        left = command.left()
    assert left == []


@pytest.mark.timeout(600)
def test_the_lab_listens_here_and_asks_for_a_token(folder):
    command = Command(folder, "lab")
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/lab\?token=(\w+)", command.told())):
            assert time.monotonic() < deadline, command.told()
            time.sleep(0.5)
        assert listening(command.mark) == {"127.0.0.1"}
        status, _ = fetched(f"http://127.0.0.1:{found[1]}/api/contents")
        assert status == 403
        status, _ = fetched(f"http://127.0.0.1:{found[1]}/api/contents?token={found[2]}")
        assert status == 200
    finally:
        command.kill(signal.SIGTERM)
        command.left(5)
