"""Real servers for tests: fetched or built once into a cache, started on free ports, ended by pid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.servers import llm, milvus
from tests.servers.weaviate import fetch_weaviate

FETCHERS: dict[str, Callable[[], Path]] = {
    "llm": llm.fetch,
    "milvus": milvus.fetch,
    "tiktoken": llm.fetch_tables,
    "weaviate": fetch_weaviate,
}
"""By name, what puts a server (or a table that tests need) into the cache and returns its folder there."""
