"""Reading and copying the store's files without the holes in them, which make up nearly all of their length."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def extents(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each part of a file that is stored; the rest reads as zeros."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not hasattr(os, "SEEK_DATA"):
            yield 0, file.read()
            return
        end = 0
        while end < size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield start, os.pread(file.fileno(), end - start, start)


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file with its holes."""
    with Path(target).open("wb") as file:
        for start, data in extents(Path(source)):
            file.seek(start)
            file.write(data)
        file.truncate(Path(source).stat().st_size)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, files with their holes."""
    shutil.copytree(source, target, copy_function=copy_file)
