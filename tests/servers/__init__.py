"""Real servers, and a browser, for tests: fetched or built once, started on free ports, ended by pid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.servers import llm, milvus
from tests.servers.chromium import fetch_chromium
from tests.servers.weaviate import fetch_weaviate

FETCHERS: dict[str, Callable[[], Path]] = {
    "chromium": fetch_chromium,
    "llm": llm.fetch,
    "milvus": milvus.fetch,
    "tiktoken": llm.fetch_tables,
    "weaviate": fetch_weaviate,
}
"""By name, what puts a server, or a table that tests need, into the cache (the browser: onto the system), and returns
where it is."""
