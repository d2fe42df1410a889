"""Connecting to a Qdrant server, with limits that hold for a whole call."""

from __future__ import annotations

import re
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from httpx import Request, Response
from qdrant_client import QdrantClient

from ragstack.adapters.qdrant_server_errors import Address, Deadline
from ragstack.config.stores.qdrant import IN_MEMORY, QdrantStoreConfig
from ragstack.errors import CapabilityError, StoreUnavailableError

OLDEST_SERVER = (1, 10)
_SHORTEST_S = 0.05


def address_of(block: QdrantStoreConfig) -> Address:
    """Where the store of a block is, for messages."""
    return Address(block.uri, block.api_key.get_secret_value() if block.api_key else "")


def connect(block: QdrantStoreConfig, deadline: Deadline) -> QdrantClient:
    """A client of the server of ``block``; nothing is sent yet. StoreUnavailableError for unusable TLS settings."""
    if block.uri == IN_MEMORY:
        return QdrantClient(IN_MEMORY)
    # A channel waits longer after each failure until it connects again, up to 2 minutes unless it is told otherwise.
    grpc_options: dict[str, Any] = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000}
    options: dict[str, Any] = {"grpc_options": grpc_options}
    if block.tls_ca_file is not None:
        try:
            options["verify"] = ssl.create_default_context(cafile=block.tls_ca_file)
            grpc_options["root_certificates"] = Path(block.tls_ca_file).read_bytes()
        except OSError as error:  # ssl.SSLError is one
            raise StoreUnavailableError(
                f"the certificates in {block.tls_ca_file} cannot be used: {error}.", hint="Check store.tls_ca_file."
            ) from error
    with warnings.catch_warnings():
        # The client warns of a key over http:; that is the user's choice, on a loopback or private network.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
        client = QdrantClient(
            url=block.uri,
            grpc_port=block.grpc_port,
            prefer_grpc=block.prefer_grpc,
            api_key=block.api_key.get_secret_value() if block.api_key else None,
            timeout=int(-(-block.timeout_s // 1)),
            check_compatibility=False,  # asked by the adapter, in its own words
            **options,
        )
    client.http.client.add_middleware(_within(deadline))
    return client


def _within(deadline: Deadline) -> Callable[[Request, Callable[[Request], Response]], Response]:
    def middleware(request: Request, send: Callable[[Request], Response]) -> Response:
        if deadline.at is not None:
            # The client itself knows whole seconds, the same for each attempt.
            left = max(_SHORTEST_S, deadline.at - time.monotonic())
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), left)
        return send(request)

    return middleware


def check_version(version: str, address: Address) -> None:
    """CapabilityError for a server that is too old; a version that is no number is let through."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST_SERVER:
        raise CapabilityError(
            f"the Qdrant server at {address.uri} is of version {version}; ragstack needs"
            f" {'.'.join(map(str, OLDEST_SERVER))} or later.",
            hint="Update the server.",
        )
