"""Where this user's copies of what is costly to make are kept, for all pipelines."""

from __future__ import annotations

import os
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
