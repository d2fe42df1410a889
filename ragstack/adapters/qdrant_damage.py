"""Damaged files of an embedded collection, noticed before they are read.

The engine maps its files into memory and trusts them: damaged ones may not only fail but end the process.
So files that somebody else has changed since the collection was closed are first read whole by a child; what
the child survives, this process can read.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path


def stamp_of(folder: Path) -> str:
    """A digest of the names, sizes and modification times of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        info = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def deadly_because(folder: Path) -> str:
    """Why this process must not read the collection in ``folder``, in words; empty when it may.

    Errors that can be caught are not looked for: the caller will meet them. The collection must not be open in
    this process.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ragstack.adapters.qdrant_probe", str(folder.absolute())],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"reading its files ends the process ({signal.Signals(-done.returncode).name})"
    return f"reading its files in a process of its own failed: {done.stderr.strip()[-500:]}"
