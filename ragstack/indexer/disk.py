"""Space on the disk of an index: what it takes, and how much must stay free."""

from __future__ import annotations

import shutil
from pathlib import Path

from ragstack.config.models import PipelineConfig
from ragstack.errors import StoreError


def store_folder(config: PipelineConfig, state_dir: Path) -> Path:
    """Where the embedded store keeps its files; there need be none for another kind of store."""
    path = getattr(config.store, "path", None)
    return Path(path) if path else state_dir / "store"


_RESERVE_BYTES, _RESERVE_SHARE = 256 * 1024 * 1024, 0.1
_TIGHT_BYTES = 128 * 1024 * 1024


def reserve_bytes(config: PipelineConfig, folder: Path) -> int:
    """Bytes that indexing leaves free on the disk of ``folder``: ``indexer.min_free_bytes``, or what suits the disk."""
    told = config.indexer.min_free_bytes
    if told is not None:
        return told
    return min(_RESERVE_BYTES, int(shutil.disk_usage(folder).total * _RESERVE_SHARE))


def is_tight(config: PipelineConfig, folder: Path) -> bool:
    """True when so little space is left that larger steps may be refused and smaller ones not."""
    return shutil.disk_usage(folder).free < reserve_bytes(config, folder) + _TIGHT_BYTES


def disk_bytes(path: Path) -> int:
    """Bytes that a file, or a folder and all below it, takes on disk; 0 where there is none.

    Blocks are counted, not lengths: the store's files are sparse. Files that vanish meanwhile count as 0.
    """
    total = 0
    for entry in [path, *(path.rglob("*") if path.is_dir() else ())]:
        try:
            info = entry.lstat()
        except FileNotFoundError:
            continue
        total += getattr(info, "st_blocks", -(-info.st_size // 512)) * 512
    return total


def require_free_space(state_dir: Path, needed_bytes: int, reserve_bytes: int, doing: str) -> None:
    """Raise StoreError unless ``needed_bytes`` fit on the disk and ``reserve_bytes`` are left after that.

    A mapped file that cannot grow kills the process, so this is asked before each larger write.
    ``doing`` begins the sentence of the error ("erasing copies what remains").
    """
    free = shutil.disk_usage(state_dir).free
    if free < needed_bytes + reserve_bytes:
        raise StoreError(
            f"{doing}, which takes about {needed_bytes / 1e6:.0f} MB; {free / 1e6:.0f} MB are free on the disk of"
            f" {state_dir}, and {reserve_bytes / 1e6:.0f} MB of them are kept in reserve. Nothing was changed.",
            hint="Free some space, or lower indexer.min_free_bytes, and run the same command again.",
        )


def require_growth(folder: Path, needed_bytes: int, reserve_bytes: int) -> None:
    """Raise StoreError unless the index can grow by so much on the disk of ``folder`` and leave the reserve free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + reserve_bytes:
        next_step = f"the next step may take {needed_bytes / 1e6:.1f} MB and " if needed_bytes else ""
        raise StoreError(
            f"the disk of {folder} is nearly full: {free / 1e6:.1f} MB are free, {next_step}"
            f"{reserve_bytes / 1e6:.0f} MB are kept in reserve. What was published before is kept and can be queried.",
            hint="Free some space, or lower indexer.min_free_bytes, and run the same command again.",
        )
