"""The process that serves: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from ragstack.api.app import create_app, require_startable
from ragstack.api.discovery import RunningServer, announced, config_digest
from ragstack.api.keys import KeyFile
from ragstack.api.security import require_safe_address
from ragstack.api.state import AppState
from ragstack.errors import IndexNotFoundError, InputError
from ragstack.pipeline import Pipeline

_LAST_GRACE_S = 5.0
"""Seconds after the timeout of the shutdown in which told requests and their threads end; then the process does."""
_BACKLOG = 1024


def serve(pipeline: Pipeline, host: str, port: int, on_ready: Callable[[str], None]) -> int:
    """Serve until SIGINT or SIGTERM; the exit status. ``on_ready`` gets the URL once requests are taken.

    Raises InputError for an address that cannot be listened on, IndexLockedError while another process holds the
    index, and what opening store and model raises. Without an index it serves all the same.
    """
    has_keys = KeyFile(pipeline.state_dir).has_usable()
    require_safe_address(host, has_keys, pipeline.config.server)
    with ExitStack() as stack:
        stack.callback(pipeline.close)
        listening = stack.enter_context(_listen(host, port))
        exclusive = not pipeline.shared.store.capabilities.multi_process
        with suppress(IndexNotFoundError):  # a document may be sent first
            pipeline.engine.warm_up()
        require_startable(pipeline)
        server = RunningServer(_url(listening), exclusive, config_digest(pipeline.config))
        app = create_app(pipeline, local_token=server.token)
        grace_s = pipeline.config.server.shutdown_timeout_s
        running = _Server(app, grace_s, lambda: on_ready(server.url))
        stack.enter_context(announced(pipeline.state_dir, server))
        running.run(sockets=[listening])
        if running.force_exit:
            stack.pop_all()  # whoever asks twice does not wait for threads
            _end_now(130)
    return 0


class _Server(uvicorn.Server):
    """uvicorn's server: says when it is ready, and tells requests when their time is over."""

    def __init__(self, app: FastAPI, grace_s: float, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_graceful_shutdown=int(grace_s + _LAST_GRACE_S),
            )
        )
        self._app, self._grace_s, self._on_ready = app, grace_s, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests; those under way have their time, then they are ended with an error."""
        state: AppState = self._app.state.ragstack
        asyncio.get_running_loop().call_later(self._grace_s, state.shutdown.end_requests)
        guard = threading.Timer(self._grace_s + 2 * _LAST_GRACE_S, _give_up)
        guard.daemon = True
        guard.start()
        try:
            await super().shutdown(sockets=sockets)
        finally:
            guard.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again afterwards: this was a clean end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _give_up() -> None:
    print("error: something did not end in time; the process ends. The index is consistent.", file=sys.stderr)
    _end_now(1)


def _end_now(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises InputError where there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}: {error.strerror or error}.", hint="Name another address with --host."
        ) from error
    with opened:
        if sys.platform != "win32":  # pragma: no branch - there it would let two programs share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(_BACKLOG)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}.",
                hint="Choose another with --port, or stop the program that listens there; port 0 takes a free one.",
            ) from error
        yield opened


def _url(listening: socket.socket) -> str:
    """Where this machine reaches the socket."""
    host, port = listening.getsockname()[:2]
    if host == "0.0.0.0":  # noqa: S104 - asked for by the user; loopback is part of it
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
