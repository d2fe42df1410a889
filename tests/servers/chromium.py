"""A Chromium for the tests of the web page: the system's, or Debian's package, installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.base import absent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> Path | None:
    """The browser that ``RAGSTACK_TEST_CHROMIUM`` names, else one on the path."""
    named = os.environ.get("RAGSTACK_TEST_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(found) if found else None


def fetch_chromium() -> Path:
    """Install Debian's package where there is no browser yet; the path of the browser. Needs root for that."""
    found = find_chromium()
    if found is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SystemExit(
            "there is no Chromium here, and only root can install it with apt-get.\n"
            "Install it (Debian: apt-get install chromium), or name one with RAGSTACK_TEST_CHROMIUM."
        )
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quietly)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
    subprocess.run(install, check=True, env=quietly, stdout=subprocess.DEVNULL)
    found = find_chromium()
    if found is None:
        raise SystemExit("apt-get installed the package chromium, but there is no such command.")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium, closed afterwards. Skips where there is none, which fails in CI."""
    from playwright.sync_api import sync_playwright  # not for those who only fetch

    executable = find_chromium()
    if executable is None:
        absent("chromium")
    # Chromium refuses to sandbox itself as root; what it shows here is this repository's own page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
