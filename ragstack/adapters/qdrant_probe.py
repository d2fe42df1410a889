"""Reading a whole collection in a process of its own: ``python -m ragstack.adapters.qdrant_probe``.

The engine maps its files into memory and trusts them: damaged ones may not only fail but end the process.
So a check first lets a child read everything; what the child survives, the caller can read.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.errors import StoreError

_PAGE = 500


def deadly_because(path: Path, collection: str, lock_timeout_s: float) -> str:
    """Why this process must not read the collection of the store in folder ``path``, in words; empty when it may.

    Errors that can be caught are not looked for: the caller will meet them. The store must not be open in
    this process.
    """
    arguments = [str(path.absolute()), collection, str(lock_timeout_s)]
    done = subprocess.run(
        [sys.executable, "-m", "ragstack.adapters.qdrant_probe"],
        input=json.dumps(arguments), capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"reading its files ends the process ({signal.Signals(-done.returncode).name})"
    return f"reading its files in a process of its own failed: {done.stderr.strip()[-500:]}"


def _main() -> int:
    path, collection, lock_timeout_s = json.load(sys.stdin)
    try:
        with QdrantEdgeStore(Path(path), lock_timeout_s=float(lock_timeout_s)) as store:
            page: list[str] = []
            for hit in store.iterate(collection):
                page.append(hit.id)
                if len(page) == _PAGE:
                    _fetch(store, collection, page)
                    page.clear()
            _fetch(store, collection, page)
    except StoreError:
        # The caller will meet it again, and has the words for it; here only survival counts.
        return 0
    return 0


def _fetch(store: QdrantEdgeStore, collection: str, ids: Sequence[str]) -> None:
    try:
        store.fetch(collection, ids)
    except StoreError:
        for identity in ids:
            try:
                store.fetch(collection, [identity])
            except StoreError:
                continue  # as above


if __name__ == "__main__":
    sys.exit(_main())
