"""The REST API of this checkout on loopback: uvicorn in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

import ragstack
from ragstack.api.app import create_app


@contextmanager
def serving(pipeline: ragstack.Pipeline) -> Iterator[str]:
    """The address at which ``pipeline`` is served inside the block; the server closes it at the end."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(pipeline), host="127.0.0.1", port=0, log_level="error", ws="none")
    )
    thread = threading.Thread(target=server.run, name="rest")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
