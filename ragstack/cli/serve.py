"""``ragstack serve``: the REST API."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.errors import MissingExtraError

_PACKAGES = ("anyio", "fastapi", "starlette", "uvicorn")


@with_epilog("""
Examples:
  ragstack serve                            http://127.0.0.1:8000, the index of ./.ragstack
  ragstack serve -c staging.yaml --port 0   a free port; the URL is printed
  curl -s http://127.0.0.1:8000/v1/query -H 'Content-Type: application/json' -d '{"query": "..."}'

While it runs, `ragstack query`, `index` and `rm` on this machine go through it. Ctrl-C or SIGTERM ends it: requests
under way have server.shutdown_timeout_s seconds to end. A second Ctrl-C ends it at once. With --json one line of
JSON, {"url", "pid"}, is printed when it takes requests.
""")
def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; server.host without it.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port to listen on; server.port without it.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Serve the REST API."""
    loaded = load(config)
    try:
        from ragstack.api.server import serve as run_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingExtraError("ragstack serve", "server") from error
    from ragstack.pipeline import Pipeline

    def announce(url: str) -> None:
        if as_json:
            print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
        else:
            print(f"Serving at {url} (routes: {url}/openapi.json). Ctrl-C ends it.", flush=True)

    server = loaded.config.server
    return run_server(
        Pipeline(loaded), server.host if host is None else host, server.port if port is None else port, announce
    )
