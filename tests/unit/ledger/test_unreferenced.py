"""Which archived documents nothing refers to, in an archive of more than one page."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragstack.archive import sqlite
from ragstack.archive.base import DocumentKey
from ragstack.archive.sqlite import SqliteArchive
from ragstack.archive.unreferenced import unreferenced
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import parser_for
from ragstack.types import Source


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
def test_every_page_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(sqlite, "_PAGE", page)
    keys = [DocumentKey(f"{n:064x}", "text/1 text/plain", record) for n in range(5) for record in ("", "r\u00e9", "1")]
    raw = RawSource(Source("a.txt", "file:///a.txt", "0" * 64), b"hello", "text/plain")
    (document,) = parser_for("text/plain").parse(raw)
    archive = SqliteArchive(tmp_path / "archive.db")
    archive.put((key, document) for key in reversed(keys))
    archive.flush()
    assert list(archive.keys()) == sorted(keys)
    assert unreferenced(archive, [*keys[::2], DocumentKey("f" * 64, "unknown")]) == sorted(keys[1::2])
    for key in archive.keys():  # noqa: SIM118 - deleted while the keys are read
        archive.delete([key])
    archive.flush()
    assert list(archive.keys()) == []
    archive.close()
