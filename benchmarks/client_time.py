"""How long a driver's own methods take inside a call of an adapter."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# What reads and writes records, as adapters and users call it.
_METHODS = {
    "pymilvus:MilvusClient": ("search", "query", "upsert"),
    "qdrant_client:QdrantClient": ("query_points", "query_batch_points", "retrieve", "upsert"),
    "weaviate.collections.data.sync:_DataCollection": ("insert_many", "delete_many"),
    "weaviate.collections.query:_QueryCollection": ("near_vector", "fetch_objects"),
}
DRIVER_OF = {
    "milvus-lite": "pymilvus",
    "milvus-2.3.5": "pymilvus",
    "weaviate-1.39.0": "weaviate",
    "qdrant-local": "qdrant_client",
    "qdrant-http": "qdrant_client",
    "qdrant-grpc": "qdrant_client",
}
"""The driver by the name of an engine. Qdrant Edge has none: it is the engine."""


class ClientTime:
    """Seconds spent in the driver's methods since the last :meth:`take`; a method that calls another counts once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._depth = 0

    def take(self) -> float:
        """The seconds; counting begins anew."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, its time counted."""

        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            self._depth += 1
            try:
                return method(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self._seconds += time.perf_counter() - started

        return call


@contextmanager
def client_time(driver: str | None) -> Iterator[ClientTime]:
    """Count the time of a driver's methods, all instances', for the time of a block."""
    clock = ClientTime()
    replaced: list[tuple[type, str, Any]] = []
    for place, names in _METHODS.items():
        module, _, class_name = place.partition(":")
        if driver is None or module.partition(".")[0] != driver:
            continue
        class_ = getattr(import_module(module), class_name)
        for name in names:
            had = class_.__dict__.get(name)
            replaced.append((class_, name, had))
            setattr(class_, name, clock.timed(getattr(class_, name)))
    try:
        yield clock
    finally:
        for class_, name, had in replaced:
            if had is None:
                delattr(class_, name)
            else:
                setattr(class_, name, had)
