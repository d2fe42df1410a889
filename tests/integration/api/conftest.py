"""A served index over a few files, asked in this process (no network between)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app
from tests.integration.api.live import live
from tests.integration.harness import SMALL_CONFIG
from tests.servers.api import running_app

FILES = {
    "pump.txt": "The pump of line seven runs at 40 bar. It is checked every Monday by the night shift.\n",
    "valve.md": "# Valves\n\nThe valve & its seal are replaced after 300 hours of service.\n\nThe log is in room 12.\n",
    "latin1.txt": "Das Gerät wird jährlich geprüft; die Prüfung dauert zwölf Stunden.\n",
}


def write_files(folder: Path) -> Path:
    """Write the corpus, one file of it not in UTF-8."""
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode("latin-1" if name.startswith("latin1") else "utf-8"))
    return folder


@pytest.fixture(scope="session")
def shared_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on loopback for tests that change neither files nor index: made once."""
    folder = tmp_path_factory.mktemp("served")
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
    with ragstack.open(config, state_dir=folder / "state") as pipeline:
        pipeline.index(write_files(folder / "corpus"))
        with running_app(create_app(pipeline)) as url:
            yield url


@pytest.fixture(scope="session")
def shared_client(shared_url: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=shared_url, timeout=60) as client:
        yield client


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of files, one of them not in UTF-8."""
    return write_files(tmp_path / "corpus")


@pytest.fixture
def pipeline(tmp_path: Path, corpus: Path) -> Iterator[ragstack.Pipeline]:
    """A pipeline whose corpus is indexed."""
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
    with ragstack.open(config, state_dir=tmp_path / "state") as opened:
        opened.index(corpus)
        yield opened


@pytest.fixture
def client(pipeline: ragstack.Pipeline) -> Iterator[TestClient]:
    """A client of the served pipeline."""
    with TestClient(create_app(pipeline)) as opened:
        yield opened


@pytest.fixture(scope="session")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a live server of the default model, without an index."""
    config = {"server": {"model_server": {"model_names": ["text-embedding-3-small"]}}}
    with live(ragstack.open(config, state_dir=tmp_path_factory.mktemp("models") / "state")) as url:
        yield url
