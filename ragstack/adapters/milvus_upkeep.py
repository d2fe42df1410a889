"""Collections of Milvus over their life: described, indexed, loaded."""

from __future__ import annotations

import time
from typing import Any

from pymilvus.client.types import LoadState

from ragstack.adapters.milvus_connection import Connection, Request
from ragstack.adapters.milvus_errors import is_missing
from ragstack.adapters.milvus_pages import Collection
from ragstack.adapters.milvus_schema import DENSE, SPARSE, SPEC_PROPERTY, StoredSpec, index_params
from ragstack.config.stores.milvus import MilvusIndexConfig
from ragstack.errors import StoreUnavailableError

_INDEX_POLL_S = 0.2
_LOAD_POLL_S = 0.02
_PATIENCE_S = 3600.0


def described(connection: Connection, name: str, at: str) -> Collection | None:
    """What the server says about a collection; None when it has none of that name."""

    def describe(client: Any, left: float) -> Any:
        try:
            return client.describe_collection(at, timeout=left)
        except Exception as error:
            if is_missing(error):
                return None
            raise

    found = connection.call("open", name, describe)
    if found is None:
        return None
    return Collection(name, at, StoredSpec.from_json(name, (found.get("properties") or {}).get(SPEC_PROPERTY)))


def make_searchable(connection: Connection, opened: Collection, index: MilvusIndexConfig) -> None:
    """Create the indexes and load the collection, unless that is done. Ends what a process that died began."""
    missing = [
        arguments
        for arguments in index_params(index, sparse=opened.stored.sparse)
        if not connection.call("open", opened.name, _list_indexes(opened.at, str(arguments["field_name"])))
    ]
    state = connection.call(
        "open", opened.name, lambda client, left: client.get_load_state(opened.at, timeout=left)["state"]
    )
    # Milvus Lite calls a collection loaded that has no index yet, and would scan it for ever.
    if state == LoadState.Loaded and not missing:
        return
    params = connection.call("create", opened.name, lambda client, left: client.prepare_index_params())
    for arguments in missing:
        params.add_index(**arguments)
    # The driver's own waiting sleeps half a second before it looks, for each index and for loading.
    if missing:
        connection.call(
            "create", opened.name, lambda client, left: client.create_index(opened.at, params, sync=False, timeout=left)
        )
        state = LoadState.NotLoad
    connection.call(
        "load", opened.name, lambda client, left: client.load_collection(opened.at, _async=True, timeout=left)
    )
    deadline = time.monotonic() + max(connection.timeout_s, 60.0)
    while state != LoadState.Loaded:
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"Milvus at {connection.place.address} does not load the collection {opened.name!r}.",
                hint="Check the log of its query nodes, and their memory.",
            )
        time.sleep(_LOAD_POLL_S)
        state = connection.call(
            "load", opened.name, lambda client, left: client.get_load_state(opened.at, timeout=left)["state"]
        )


def wait_for_index(connection: Connection, opened: Collection) -> None:
    """Return once no sealed row waits for the index.

    StoreUnavailableError when it fails, or when an hour has passed in which no segment was finished.
    """
    least, since = -1, time.monotonic()
    for column in [DENSE, *([SPARSE] if opened.stored.sparse else [])]:
        while True:
            state = connection.call("optimize", opened.name, _describe_index(opened.at, column)) or {}
            waiting = int(state.get("pending_index_rows", 0))
            if waiting == 0:
                break
            if waiting != least:
                least, since = waiting, time.monotonic()
            if state.get("state") == "Failed" or time.monotonic() - since > _PATIENCE_S:
                raise StoreUnavailableError(
                    f"Milvus at {connection.place.address} does not go on building the index of {opened.name!r}: "
                    f"{waiting} rows wait. {state.get('index_state_fail_reason', '')}".rstrip(),
                    hint="Check the log of its index nodes.",
                )
            time.sleep(_INDEX_POLL_S)


def wait_for_handoff(connection: Connection, opened: Collection) -> None:
    """Return once the segments that grow now are searched by their index; StoreUnavailableError after an hour.

    Until then the server searches the rows of a growing segment with a coarse index of its own. They must have
    been flushed. What others write meanwhile is not waited for.
    """
    growing = _growing_segments(connection, opened)
    ends = time.monotonic() + _PATIENCE_S
    while growing & _growing_segments(connection, opened):
        if time.monotonic() > ends:
            raise StoreUnavailableError(
                f"Milvus at {connection.place.address} does not load the index of {opened.name!r}.",
                hint="Check the log of its query nodes, and their memory.",
            )
        time.sleep(_INDEX_POLL_S)


def _growing_segments(connection: Connection, opened: Collection) -> set[int]:
    segments = connection.call(
        "optimize", opened.name, lambda client, left: client.list_loaded_segments(opened.at, timeout=left), opened.at
    )
    return {int(each.segment_id) for each in segments if each.state_name == "Growing" and each.num_rows}


def _list_indexes(at: str, column: str) -> Request:
    return lambda client, left: client.list_indexes(at, field_name=column, timeout=left)


def _describe_index(at: str, column: str) -> Request:
    return lambda client, left: client.describe_index(at, column, timeout=left)
