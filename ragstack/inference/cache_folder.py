"""Where this user's copies of what is costly to make are kept, for all pipelines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``$RAGSTACK_CACHE_DIR``, else ``ragstack`` below ``$XDG_CACHE_HOME`` or ``~/.cache``. It may not exist yet.

    What lies there can be made again: deleting it costs time only.
    """
    own = environ.get("RAGSTACK_CACHE_DIR")
    if own:
        return Path(own).expanduser()
    shared = environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "ragstack"


def replace_file(path: Path, text: str) -> None:
    """Write a file below the cache folder so that other processes see the old one or the new one, whole.

    Raises OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(text)
    try:
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise
