"""What all test servers share: the cache, free ports, a process that is waited for and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from ragstack.process_lock import hold_lock

_BUILD_TIMEOUT_S = 3600.0


def cache_folder() -> Path:
    """Where servers are kept between runs, outside the checkout."""
    return Path(os.environ.get("RAGSTACK_TEST_CACHE") or Path.home() / ".cache" / "ragstack-tests")


def fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache, filled by ``fetch`` the first time; whole or not there."""
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    cache_folder().mkdir(parents=True, exist_ok=True)
    with hold_lock(cache_folder() / f"{name}.lock", _BUILD_TIMEOUT_S, f"the fetching of {name}"):
        if not folder.is_dir():
            building = cache_folder() / f".{name}-{os.getpid()}"
            building.mkdir()
            fetch(building)
            building.rename(folder)
    return folder


def absent(server: str) -> NoReturn:
    """Skip, as a server is not in the cache. In CI that fails, and CI fetches all servers before the tests."""
    pytest.skip(f"{server} is not in the cache; fetch it with: python scripts/fetch_servers.py {server}")


def free_port() -> int:
    """A port on loopback that nothing listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess:
    """A server started by these tests. ``ready_url`` answers 200 once it can be used."""

    def __init__(
        self, command: Sequence[str], ready_url: str, log: Path, environment: Mapping[str, str], cwd: Path
    ) -> None:
        self._command, self._ready_url, self._log = list(command), ready_url, log
        self._environment, self._cwd = {**os.environ, **environment}, cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout_s: float = 120.0) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._environment, cwd=self._cwd
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self._ready_url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        self.kill()
        tail = self._log.read_bytes()[-3000:].decode(errors="replace")
        raise RuntimeError(f"{self._command[0]} did not answer at {self._ready_url}:\n{tail}")

    def stop(self) -> None:
        """Ask it to end, and wait. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would. Idempotent."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
