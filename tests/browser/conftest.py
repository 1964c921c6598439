"""Chromium and a page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright
from servers import PICTURES


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, or the one that Playwright has installed (``make browser``)."""
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except Error as error:
            pytest.fail(f"there is no Chromium that starts; `make browser` installs one: {error}")
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of 1280 pixels; what it shows at the end is kept in data/screenshots."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    PICTURES.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=PICTURES / f"{request.node.name}.png")
    opened.close()
