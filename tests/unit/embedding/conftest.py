from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_folder_kit import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """all-MiniLM-L6-v2 as a folder, as the hub has models."""
    return write_folder(tmp_path / "org" / "my-model")
