"""Whether two paths are one file or folder."""

from __future__ import annotations

from pathlib import Path


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, the same for every path that leads there; None where nothing can be looked at."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino
