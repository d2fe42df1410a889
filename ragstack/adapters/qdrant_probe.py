"""Reads a whole collection, and ends well if the engine does: ``python -m ragstack.adapters.qdrant_probe FOLDER``.

Run as a child by :func:`ragstack.adapters.qdrant_damage.deadly_because`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ragstack.adapters.qdrant_collection import load
from ragstack.adapters.qdrant_errors import driver_errors
from ragstack.adapters.qdrant_records import PAYLOAD_KEY
from ragstack.errors import StoreError


def _main() -> int:
    folder = Path(sys.argv[1])
    try:
        with driver_errors("read", folder.name, lambda: False):
            opened = load(folder, probe=False)
            try:
                for points in opened.pages(None, 500):
                    opened.shard.retrieve([point.id for point in points], [PAYLOAD_KEY], True)
            finally:
                opened.shard.close()
    except StoreError:
        # The caller will meet it again, and has the words for it; here only survival counts.
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(_main())
