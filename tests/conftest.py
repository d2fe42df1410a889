"""Shared by all tests: no network, no skips in CI, the data for larger tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
_IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
# Servers that whoever runs the tests names are not the network.
_TEST_SERVERS = {urlsplit(os.environ.get("RAGSTACK_TEST_QDRANT_URL", "")).hostname} - {None}
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")

# A machine under load is no mistake in the code, so nothing here is judged by the clock.
settings.register_profile("ragstack", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ragstack")

# Read by the hub client of this process and of those that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this user's earlier runs measured and remembered decides nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


class NetworkBlockedError(BaseException):
    """A test reached for the network. No Exception, so that nothing takes it for a server that is down."""


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse every connection and name look-up beyond this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded_connect(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))
        yield


def _guarded_connect(real: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_remote(address[0])
        return real(self, address)

    return connect


def _guarded_lookup(real: Any) -> Any:
    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if host is not None:
            _refuse_remote(host)
        return real(host, *args, **options)

    return getaddrinfo


def _refuse_remote(host: str | bytes) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in _TEST_SERVERS:
        return
    if name and not name.startswith(_LOOPBACK):
        raise NetworkBlockedError(f"a test tried to reach {name}; tests run without a network")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with larger corpora: RAGSTACK_TEST_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("RAGSTACK_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the larger corpora are not here; set RAGSTACK_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: CI has all that a test may ask for, save a GPU."""
    report = yield
    if _IN_CI and report.skipped and not hasattr(report, "wasxfail") and "GPU" not in _skip_reason(report):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {_skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if _IN_CI and report.skipped and "GPU" not in _skip_reason(report):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {_skip_reason(report)}"
    return report


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
