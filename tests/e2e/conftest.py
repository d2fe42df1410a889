"""A browser, a served pipeline and a page in it, for the tests of the web page.

Each lives as long as a file's tests: playwright runs an event loop in this thread, which other tests must not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ragstack.generation.extractive import ExtractiveGenerator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.e2e.page import Gate, Served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from tests.servers.chromium import running_browser

    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The real server, over the files that ``tests.e2e.page`` names."""
    from tests.e2e.page import served

    with served(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    """The web page, just opened."""
    from tests.e2e.page import opened_page

    with opened_page(browser, server.url) as page:
        page.goto("/")
        yield page


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds back the answers of the server."""
    from tests.e2e.page import Gate

    gate = Gate()
    monkeypatch.setattr(ExtractiveGenerator, "stream", gate.held(ExtractiveGenerator.stream))
    yield gate
    gate.open()
