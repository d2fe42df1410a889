"""A model's API on loopback, of a reranker or an embedder, that answers as a test tells it to: replies and faults.

The happy path is tested with a real server (tests/integration/test_remote_reranker.py); it can't be made to be
overloaded, to stall, to cut a reply short or to leave a passage out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.loopback_http import LoopbackHttp, client_leaves_within


@dataclass
class Seen:
    """One request; names of headers are in lower case. ``client_left``: before it was answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    client_left: threading.Event = field(default_factory=threading.Event)
    client_port: int = 0


@dataclass(frozen=True)
class Answer:
    """A status and a body: bytes, or what is written as JSON. ``stall_s``: seconds before it; ``cut``: half of it."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    cut: bool = False


Respond = Callable[[Seen], Answer]


class RerankReplay:
    """A running server; ``respond`` answers each request, ``seen`` has them in order."""

    def __init__(self) -> None:
        self.respond: Respond = lambda seen: Answer(status=500)
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            server_of = server

        self._http = LoopbackHttp(Handler)

    @property
    def url(self) -> str:
        """Without a path."""
        return self._http.url

    def answering(self, respond: Respond) -> None:
        """Answer so from now on, and forget what was seen."""
        self.respond, self.seen = respond, []

    def in_turn(self, *answers: Answer) -> None:
        """Give these answers, the last of them again and again."""
        left = list(answers)

        def respond(seen: Seen) -> Answer:
            with self.lock:
                return left.pop(0) if len(left) > 1 else left[0]

        self.answering(respond)

    def close(self) -> None:
        """Listen no more."""
        self._http.close()


class _Handler(BaseHTTPRequestHandler):
    server_of: RerankReplay
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: Any) -> None:
        seen = Seen(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
        seen.client_port = self.client_address[1]
        with self.server_of.lock:
            self.server_of.seen.append(seen)
        answer = self.server_of.respond(seen)
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if answer.stall_s and client_leaves_within(self.connection, answer.stall_s):
            seen.client_left.set()
            self.close_connection = True
            return
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if answer.cut else data)
        self.close_connection = self.close_connection or answer.cut

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[RerankReplay]:
    """A server for the time of a block."""
    server = RerankReplay()
    try:
        yield server
    finally:
        server.close()
