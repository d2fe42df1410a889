"""The application behind a real HTTP server on a free port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

import ragstack
from ragstack.api.app import create_app


@contextmanager
def live(pipeline: ragstack.Pipeline) -> Iterator[str]:
    """The base URL of a server that runs in a thread and is ready to embed; it is shut down at the end."""
    config = uvicorn.Config(create_app(pipeline), host="127.0.0.1", port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url) as client:
            while client.get("/health").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.05)
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not shut down"
