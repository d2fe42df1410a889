"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.harness import Index, write_corpus


@pytest.fixture
def idx(tmp_path: Path) -> Index:
    """An index in a folder of its own."""
    return Index(tmp_path / "index")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of small documents in several formats."""
    root = tmp_path / "corpus"
    write_corpus(root)
    return root
