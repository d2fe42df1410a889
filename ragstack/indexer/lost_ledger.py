"""Noticing that a ledger is gone, before opening it makes a new, empty one."""

from __future__ import annotations

from pathlib import Path

from ragstack.errors import IndexFormatError
from ragstack.ledger.schema import ARCHIVE_FILE, LEDGER_FILE


def has_ledger(state_dir: Path) -> bool:
    """True when there is a ledger file that is not empty."""
    ledger = state_dir / LEDGER_FILE
    return ledger.is_file() and ledger.stat().st_size > 0


def refuse_lost_ledger(state_dir: Path, store: Path) -> None:
    """Raise IndexFormatError when there is no ledger, but an archive or a collection that one must have named."""
    if has_ledger(state_dir):
        return
    if (state_dir / ARCHIVE_FILE).exists() or any(store.glob("gen-*")):
        raise ledger_lost(state_dir)


def ledger_lost(state_dir: Path) -> IndexFormatError:
    """The error for an index whose ledger is gone: nothing else says what the other files belong to."""
    return IndexFormatError(
        f"{state_dir / LEDGER_FILE}: the ledger is missing or empty, but {state_dir} holds an index.",
        hint=f"Delete {state_dir} and run `ragstack index PATH` again; the sources are not touched.",
    )
