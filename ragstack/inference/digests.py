"""SHA-256 of weights files, without reading many gigabytes again at every start.

A file's digest is remembered together with what the file system says of the file: its path, inode, size, and the times
of its last change of content (mtime) and of anything (ctime). Nobody can set the ctime, so weights that were changed in
place, their size and mtime kept, are read again. A file that changed less than two seconds before it was read is not
remembered: a second change may fall into the same tick of the file system's clock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

from ragstack.inference.cache_folder import cache_folder
from ragstack.inference.role import ModelRole
from ragstack.types import sha256_hex

_log = logging.getLogger(__name__)

_REMEMBERED_FROM = 32 * 2**20
"""Bytes. Smaller files are read each time: that takes less than a tenth of a second."""
_WORTH_SAYING = 2**30
_SETTLED_S = 2.0
_BLOCK = 4 * 2**20


def file_digest(path: Path, role: ModelRole) -> str:
    """The SHA-256 (hex) of a file's content.

    Raises the role's error when the file cannot be read, or is written to meanwhile.
    """
    try:
        before = path.stat()
        entry = _entry(path)
        known = _recall(entry, _identity(path, before)) if before.st_size >= _REMEMBERED_FROM else None
        if known is not None:
            return known
        if before.st_size >= _WORTH_SAYING:
            _log.info("hashing %s, %.1f GB: once, unless it changes", path, before.st_size / 1e9)
        settled = _now() - max(before.st_mtime, before.st_ctime) > _SETTLED_S
        found = _read(path)
        after = path.stat()
    except OSError as error:
        raise role.error(
            f"{path}: a file of the {role.name} cannot be read: {error.strerror or error}.",
            hint="Check its permissions, or download the model again.",
        ) from error
    if _identity(path, before) != _identity(path, after):
        raise role.error(
            f"{path}: a file of the {role.name} was changed while it was read.", hint="Try again when it is whole."
        )
    if settled and before.st_size >= _REMEMBERED_FROM:
        _remember(entry, _identity(path, before), found)
    return found


def _now() -> float:
    return time.time()


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def _identity(path: Path, status: os.stat_result) -> dict[str, str | int]:
    return {
        "path": str(path.resolve()),
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }


def _entry(path: Path) -> Path:
    return cache_folder() / "digests" / f"{sha256_hex(str(path.resolve()).encode('utf-8', 'surrogateescape'))}.json"


def _recall(entry: Path, identity: dict[str, str | int]) -> str | None:
    try:
        kept = json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # never kept, or half written: it is made anew
        return None
    if not isinstance(kept, dict) or kept.get("file") != identity:
        return None
    found = kept.get("sha256")
    return found if isinstance(found, str) and len(found) == 64 else None


def _remember(entry: Path, identity: dict[str, str | int], sha256: str) -> None:
    temporary = ""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
            temporary = file.name
            json.dump({"file": identity, "sha256": sha256}, file)
        Path(temporary).replace(entry)
    except OSError:  # a cache that cannot be written to costs the next start the same time, nothing else
        if temporary:
            Path(temporary).unlink(missing_ok=True)
