"""A Weaviate server of this machine: built once from its Go module, started alone on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.base import ServerProcess, absent, cache_folder, fetched, free_port

VERSION = "1.39.0"
NAME = f"weaviate-{VERSION}"
_MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"


def fetch_weaviate() -> Path:
    """Build the server into the cache: minutes of compiling with Go 1.26 or newer, once."""
    return fetched(NAME, _build)


def _build(folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise RuntimeError(f"Weaviate is built from the Go module {_MODULE}: install Go 1.26 or newer.")
    environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-p=2 -buildvcs=false"}
    subprocess.run([go, "install", _MODULE], env=environment, check=True)


def weaviate_server(folder: Path, environment: Mapping[str, str] | None = None) -> WeaviateServer:
    """A server with its data below ``folder``, not started; skips where the binary is not in the cache."""
    binary = cache_folder() / NAME / "weaviate-server"
    if not binary.exists():
        absent("weaviate")
    return WeaviateServer(binary, folder, environment or {})


class WeaviateServer(ServerProcess):
    """One node that knows no other, on free ports. ``url`` is REST, ``grpc_port`` beside it."""

    def __init__(self, binary: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.port, self.grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            [str(binary), "--host", "127.0.0.1", "--port", str(self.port), "--scheme", "http"],
            f"{self.url}/v1/.well-known/ready",
            folder / "server.log",
            {**_environment(folder / "data", self.grpc_port), **environment},
            folder,
        )


def _environment(data: Path, grpc_port: int) -> dict[str, str]:
    return {
        "PERSISTENCE_DATA_PATH": str(data),
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "API_BASED_MODULES_DISABLED": "true",
        "CLUSTER_HOSTNAME": "node1",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_GOSSIP_BIND_PORT": str(free_port()),
        "CLUSTER_DATA_BIND_PORT": str(free_port()),
        "RAFT_PORT": str(free_port()),
        "RAFT_INTERNAL_RPC_PORT": str(free_port()),
        "RAFT_BOOTSTRAP_EXPECT": "1",
        "GRPC_PORT": str(grpc_port),
        "DISABLE_TELEMETRY": "true",
        "LOG_LEVEL": "warning",
    }
