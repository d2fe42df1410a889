"""One indexed pipeline for all tests of the LangChain integration, and what runs its async tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ragstack
from tests.integration.harness import SMALL_CONFIG
from tests.servers.rest import serving

DOCUMENTS = {
    "pump.md": (
        "---\nyear: 2021\n---\n\n# Pumps\n\nThe pump of line seven runs at 40 bar.\n\n## Checks\n\n"
        "The pump is checked every Monday by the night shift.\n"
    ),
    "valve.md": "---\nyear: 2024\n---\n\n# Valves\n\nThe valve of the pump is replaced after 300 hours of service.\n",
    "log.txt": "The log of pump and valve is kept in room 12, behind the compressor of line seven.\n",
    "bom.txt": "Die Prüfung der Pumpe (pump) dauert zwölf Stunden.\n",
}
CONFIG = {
    **SMALL_CONFIG,
    "chunker": {"type": "auto", "max_tokens": 24},
    "fields": {"year": {"type": "integer"}},
    "retrieval": {"min_relevance": 0.0},
}


def pytest_configure(config: pytest.Config) -> None:
    """Marks of suites for other classes, which are imported along with ours; their plugins are not used here."""
    for name in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{name}: of langchain-tests")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What runs async tests: the suites' own, and ours."""
    return "asyncio"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of documents, one of them with a byte-order mark."""
    folder = tmp_path_factory.mktemp("langchain") / "corpus"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_bytes(text.encode("utf-8-sig" if name == "bom.txt" else "utf-8"))
    return folder


@pytest.fixture(scope="session")
def pipeline(corpus: Path) -> Iterator[ragstack.Pipeline]:
    """A pipeline that has indexed the documents."""
    with ragstack.open(CONFIG, state_dir=corpus.parent / "state") as opened:
        opened.index(corpus)
        yield opened


@pytest.fixture(scope="session")
def url(corpus: Path) -> Iterator[str]:
    """Where the same documents are served."""
    served = ragstack.open(CONFIG, state_dir=corpus.parent / "served")
    served.index(corpus)
    with serving(served) as address:
        yield address
