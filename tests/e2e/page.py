"""What the tests of the web page share: a served pipeline whose answers wait for a word, and a watched browser page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect

import ragstack
from ragstack.api.app import create_app
from tests.integration.harness import SMALL_CONFIG
from tests.servers.base import free_port

expect.set_options(timeout=20_000)  # a machine under load is no mistake in the page
LONG_WORD = "x" * 3000
HOSTILE_TEXT = (
    "# Invoices\n\nThe invoice from \u202eecnal\u202c is due in forty days.\n\n"
    "Write <img src=x onerror=\"window.pwned='img'\"> on it.\n\n"
    "Add </script><script>window.pwned='script'</script></mark> below.\n\n"
    f"The serial number of the invoice is {LONG_WORD} and no other.\n"
)
FILES = {
    "guide.md": "# Guide\n\nThe pump – it is blue – is primed with oil.\n\n## Starting\n\nTurn the red lever twice."
    " Wait ten seconds.\n\n## Stopping\n\nPush the lever back. The lamp goes out.\n",
    "gauge.txt": "The gauge of line seven shows 40 bar. It is read every Monday by the night shift.\n",
    "hostile.md": HOSTILE_TEXT,
}
FIRST = "The pump – it is blue – is primed with oil."  # the first sentence of the answer to QUESTION
QUESTION = "How is the pump primed? When does the lamp go out?"


class Gate:
    """Holds answers back: while it is shut, each sentence, and the end, waits for a word."""

    def __init__(self) -> None:
        self._words: threading.Semaphore | None = None

    def shut(self) -> None:
        """For the questions from now on."""
        self._words = threading.Semaphore(0)

    def let_pass(self, events: int = 1) -> None:
        """Give the word for so many."""
        assert self._words is not None
        self._words.release(events)

    def open(self) -> None:
        """Nothing waits any more."""
        words, self._words = self._words, None
        if words is not None:
            words.release(1000)

    def held(self, original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """A generator's ``stream`` behind this gate."""

        def stream(*arguments: Any) -> Iterator[Any]:
            words = self._words
            for event in original(*arguments):
                if words is not None:
                    words.acquire()
                yield event

        return stream


@dataclass
class Served:
    """A running server. ``folder`` is its corpus."""

    url: str
    folder: Path
    pipeline: ragstack.Pipeline


@contextmanager
def served(folder: Path, **config: Any) -> Iterator[Served]:
    """The real application over loopback, with :data:`FILES` indexed."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for name, text in FILES.items():
        (corpus / name).write_bytes(text.encode())
    generator = {"type": "extractive", "max_sentences": 2}
    settings = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}, "generator": generator, **config}
    pipeline = ragstack.open(settings, state_dir=folder / "state")
    pipeline.index(corpus)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(pipeline), port=port, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started
        yield Served(f"http://127.0.0.1:{port}/", corpus, pipeline)
    finally:
        server.should_exit = True
        thread.join(60)
        pipeline.close()


@contextmanager
def opened_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in a context of its own. Fails for anything it asks of another host, and for any error in its console."""
    context = browser.new_context(
        base_url=url, viewport=options.pop("viewport", {"width": 1280, "height": 800}), **options
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        if not request.url.startswith((url, "blob:" + url.rstrip("/"))):
            complaints.append(f"asked for {request.url}")

    page.on("request", on_request)
    page.on("pageerror", lambda error: complaints.append(f"error {error}"))
    # A status other than success is logged by the browser itself.
    page.on(
        "console",
        lambda said: (
            complaints.append(said.text)
            if said.type in ("error", "warning") and "Failed to load resource" not in said.text
            else None
        ),
    )
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


def ask(page: Page, question: str = QUESTION) -> None:
    """Type a question and send it."""
    page.fill("#question", question)
    page.keyboard.press("Enter")


def answered(page: Page, turn: int = 0) -> Any:
    """The turn, once its answer is whole."""
    found = page.locator(".turn").nth(turn)
    found.locator(".account-row").wait_for()
    return found


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the nodes."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:160] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def open_corpus(page: Page) -> None:
    """Go to the corpus by its link."""
    page.get_by_role("link", name="Corpus").click()
    expect(page.get_by_role("heading", name="Corpus")).to_be_focused()
    expect(page.locator("#documents .row").first).to_be_visible()
