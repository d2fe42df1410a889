"""Connecting to a Weaviate server: addresses, the key, time limits."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import weaviate
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.config import GrpcConfig
from weaviate.connect import ConnectionParams

from ragstack.adapters.weaviate_errors import Redaction, driver_errors
from ragstack.config.stores.weaviate import WeaviateStoreConfig
from ragstack.errors import StoreUnavailableError

_LOCAL_GRPC_PORT = 50051
_CLOUD = (".weaviate.cloud", ".weaviate.network", ".weaviate.io")
# A call waits for a lost connection to come back, up to its time limit, and then fails once. Without this
# the driver repeats it at growing intervals for over a minute, whatever the time limit says.
_SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "waitForReady": True}]})
_MAX_RECONNECT_MS = 1000


@dataclass(frozen=True)
class Address:
    """One end of a connection."""

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


def addresses(block: WeaviateStoreConfig) -> tuple[Address, Address]:
    """Where REST and gRPC are."""
    rest = _address(block.uri)
    if block.grpc_uri is not None:
        return rest, _address(block.grpc_uri)
    if block.grpc_port is not None:
        return rest, Address(rest.host, block.grpc_port, rest.secure)
    if rest.host.endswith(_CLOUD):
        return rest, Address(f"grpc-{rest.host}", 443, True)
    return rest, Address(rest.host, _LOCAL_GRPC_PORT, rest.secure)


def _address(uri: str) -> Address:
    parts = urlsplit(uri)
    secure = parts.scheme == "https"
    return Address(parts.hostname or "", parts.port or (443 if secure else 80), secure)


def redaction(block: WeaviateStoreConfig) -> Redaction:
    """What errors may say about the connection."""
    rest, grpc = addresses(block)
    secret = block.api_key.get_secret_value() if block.api_key is not None else None
    return Redaction(f"{rest} (gRPC {grpc})", secret)


def connect(block: WeaviateStoreConfig) -> weaviate.WeaviateClient:
    """A connected client; StoreUnavailableError within ``timeout_s`` when either address does not answer."""
    rest, grpc = addresses(block)
    key = block.api_key
    client = weaviate.WeaviateClient(
        ConnectionParams.from_params(
            http_host=rest.host,
            http_port=rest.port,
            http_secure=rest.secure,
            grpc_host=grpc.host,
            grpc_port=grpc.port,
            grpc_secure=grpc.secure,
        ),
        auth_client_secret=Auth.api_key(key.get_secret_value()) if key is not None else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=block.timeout_s, query=block.timeout_s, insert=block.timeout_s),
            grpc_config=GrpcConfig(
                channel_options=[
                    ("grpc.service_config", _SERVICE_CONFIG),
                    ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MS),
                ]
            ),
        ),
        # The driver's own checks ask the package index for a newer driver.
        skip_init_checks=True,
    )
    try:
        with driver_errors("connect", None, redaction(block)):
            client.connect()
        _check_grpc(grpc, rest, block.timeout_s)
    except BaseException:
        client.close()
        raise
    return client


def _check_grpc(grpc: Address, rest: Address, timeout_s: float) -> None:
    """Whether something listens where gRPC should be; the driver would only say so at the first search."""
    try:
        socket.create_connection((grpc.host, grpc.port), timeout=timeout_s).close()
    except OSError as error:
        raise StoreUnavailableError(
            f"could not connect: Weaviate at {rest} answers, its gRPC at {grpc} does not: {error}.",
            hint="Check store.grpc_uri or store.grpc_port against the server's GRPC_PORT.",
        ) from error
