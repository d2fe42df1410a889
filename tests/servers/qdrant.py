"""A Qdrant server started by the tests, from the program that RAGSTACK_TEST_QDRANT_BINARY names.

No package registry has the server, so nothing is fetched: it comes from its project's releases or images.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.base import ServerProcess, free_port

BINARY = os.environ.get("RAGSTACK_TEST_QDRANT_BINARY")


class QdrantServer:
    """A server with its files below ``folder``; ``process`` starts, stops and kills it."""

    def __init__(self, folder: Path) -> None:
        assert BINARY is not None
        port, grpc_port = free_port(), free_port()
        self.uri, self.grpc_port = f"http://127.0.0.1:{port}", grpc_port
        environment = {
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(port),
            "QDRANT__SERVICE__GRPC_PORT": str(grpc_port),
            "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
        }
        self.process = ServerProcess([BINARY], f"{self.uri}/readyz", folder / "log", environment, folder)
