"""Waiting until a Qdrant server has built the indexes of a collection."""

from __future__ import annotations

import time
from functools import partial

from qdrant_client import QdrantClient, models

from ragstack.adapters.qdrant_server_collection import physical_name
from ragstack.adapters.qdrant_server_schema import Send
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import StoreError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


def wait_until_optimized(client: QdrantClient, send: Send, block: QdrantStoreConfig, collection: str) -> None:
    """Return when the server's optimizers are idle. Raises StoreError when they fail or take too long."""
    physical = physical_name(block.prefix, collection)
    ends = time.monotonic() + block.optimize_timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        info = send(lambda: client.get_collection(physical), "optimize", collection)
        if info.status == models.CollectionStatus.GREEN:
            return
        if info.status == models.CollectionStatus.RED:
            raise StoreError(
                f"the optimizers of the collection {collection!r} on the Qdrant server at {block.uri} failed:"
                f" {info.optimizer_status}.",
                hint="Read the server's log; a full disk or too little memory is the usual cause.",
            )
        if info.status == models.CollectionStatus.GREY:
            # After a restart the server optimizes only once it is told to; an empty change tells it.
            tell = partial(client.update_collection, physical, optimizers_config=models.OptimizersConfigDiff())
            send(tell, "optimize", collection)
        if time.monotonic() + pause > ends:
            raise StoreError(
                f"the Qdrant server at {block.uri} has not optimized the collection {collection!r} after"
                f" {block.optimize_timeout_s:g} s.",
                hint="It goes on by itself. Raise store.optimize_timeout_s to wait longer.",
            )
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_S, pause * 2)
