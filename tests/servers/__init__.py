"""Real vector-store servers for tests: fetched or built once into a cache, started on free ports, ended by pid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.servers import milvus
from tests.servers.weaviate import fetch_weaviate

FETCHERS: dict[str, Callable[[], Path]] = {"milvus": milvus.fetch, "weaviate": fetch_weaviate}
"""By name, what puts a server into the cache and returns its folder there."""
