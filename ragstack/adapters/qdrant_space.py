"""Free space for the embedded store, asked for before its mapped files grow.

The driver writes through mapped files. One that cannot grow, because the disk is full, ends the process with
SIGBUS, and no exception can be caught. So the growth of each step is estimated, on the high side, and refused
while an orderly end is still possible. The figures are measured (docs/indexing.md).

A file system in memory (tmpfs) is a case of its own: there, reading a hole of a mapped file takes space too, and
the driver reads all of the last vector file when it opens a collection that was made on a disk and copied.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from ragstack.adapters.qdrant_records import DENSE
from ragstack.errors import StoreError

_IN_MEMORY = ("tmpfs", "ramfs")
_SLACK, _SLACK_FOR_DELETION = 6_000_000, 2_000_000
_NEW_COLLECTION, _NEW_FIELD = 3_000_000, 9_500_000
_POINT_OVERHEAD = 4_096


def require_for_creation(root: Path, fields: int) -> None:
    """Raise StoreError unless a new collection with so many fields fits on the disk of ``root``."""
    # On a disk the indexes of fields are nearly all holes.
    _require(root, _NEW_COLLECTION + (fields + 1) * (_NEW_FIELD if is_in_memory(root) else 500_000), "a new collection")


def require_for_opening(folder: Path) -> None:
    """Raise StoreError unless the collection in ``folder`` can be opened."""
    needed = _unfilled(folder)
    if needed:
        _require(folder, needed, "opening the collection")


def space_to_open(root: Path) -> int:
    """Bytes that must stay free on the disk of ``root`` so that its collections can be opened again."""
    return sum(_unfilled(folder) for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else 0


def require_for_upsert(folder: Path, points: int, dim: int, payload_bytes: int, sparse_values: int) -> None:
    """Raise StoreError unless so many points can be written, and the collection opened again after that."""
    vectors = points * dim * 4 + sparse_values * 12
    # Everything is written twice: into the log and into its place.
    needed = 2 * (vectors + payload_bytes) + points * _POINT_OVERHEAD + _SLACK
    _require(folder, needed + _unfilled(folder), f"writing {points} records")


def require_for_deletion(folder: Path) -> None:
    """Raise StoreError unless records can be deleted, which takes a little space before it gives any back."""
    _require(folder, _SLACK_FOR_DELETION, "deleting records")


def _require(folder: Path, needed_bytes: int, doing: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StoreError(
            f"the disk of {folder} is nearly full: {doing} may take {needed_bytes / 1e6:.0f} MB and"
            f" {free / 1e6:.1f} MB are free. The index is as it was.",
            hint="Free some space and run the same command again.",
        )


def _unfilled(folder: Path) -> int:
    """Bytes of holes that opening the collection fills: none on a disk, nor where it was made in memory."""
    if not is_in_memory(folder) or not _reads_ahead(folder):
        return 0
    holes = 0
    for path in folder.glob("shard/segments/*/vector_storage-*/vectors/chunk_*.mmap"):
        info = path.stat()
        holes += max(info.st_size - info.st_blocks * 512, 0)
    return holes


def _reads_ahead(folder: Path) -> bool:
    try:
        config = json.loads((folder / "shard" / "edge_config.json").read_bytes())
        return bool(config["vectors"][DENSE].get("memory") != "cold")
    except (OSError, ValueError, LookupError):
        return False  # not whole: opening it fails in its own words


def is_in_memory(folder: Path) -> bool:
    """True when the folder lies on a file system that keeps its files in memory (Linux alone is looked at)."""
    if not sys.platform.startswith("linux"):
        return False
    device = os.stat(folder).st_dev  # noqa: PTH116 - one call, no Path needed
    wanted = f"{os.major(device)}:{os.minor(device)}"
    # mountinfo: id, parent, device, root, mount point, options, optional fields, "-", type, source, options
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in _IN_MEMORY
    return False
