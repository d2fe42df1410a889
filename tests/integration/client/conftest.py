"""A served index, and what runs async tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ragstack
from tests.integration.harness import SMALL_CONFIG
from tests.servers.rest import serving

CONFIG = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
FILES = {
    "pump.txt": "The pump of line seven runs at 40 bar. It is checked every Monday by the night shift.\n",
    "valve.txt": "The valve of the pump is replaced after 300 hours of service. The log is in room 12.\n",
}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What runs async tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files."""
    folder = tmp_path_factory.mktemp("client") / "corpus"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def url(corpus: Path) -> Iterator[str]:
    """Where the index of the files is served."""
    pipeline = ragstack.open(CONFIG, state_dir=corpus.parent / "state")
    pipeline.index(corpus)
    with serving(pipeline) as address:
        yield address
