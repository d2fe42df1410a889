"""What saved chains are checked against: the archive and the ledger of an index, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ragstack.archive.sqlite import SqliteArchive
from ragstack.citations.verify import Evidence
from ragstack.ledger.schema import ARCHIVE_FILE, LEDGER_FILE
from ragstack.ledger.snapshot import SnapshotReader


@contextmanager
def open_evidence(state_dir: Path) -> Iterator[Evidence]:
    """The evidence of the index at ``state_dir``; without an index, the sources alone."""
    with ExitStack() as stack:
        if not ((state_dir / LEDGER_FILE).exists() and (state_dir / ARCHIVE_FILE).exists()):
            yield Evidence(None, lambda source_id: None, lambda source_id, source_version: False)
            return
        archive = SqliteArchive(state_dir / ARCHIVE_FILE)
        stack.callback(archive.close)
        ledger = SnapshotReader(state_dir)
        stack.callback(ledger.close)
        yield Evidence(archive, ledger.source_path, ledger.known_version, uri_of=ledger.source_uri)
