"""A chat API on loopback that replays what a test tells it to, byte by byte: recorded deltas, and faults.

A real server (tests.servers.llm) can't be made to stall in mid-answer, to cut a marker in two or to send half a line.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.loopback_http import LoopbackHttp, client_leaves_within


@dataclass(frozen=True)
class Pause:
    """Send nothing for a while, or until the client leaves."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """Close the connection now, in the middle of the body."""


@dataclass
class Reply:
    """What one request is answered with: a body in parts, each sent at once, with pauses between."""

    parts: Sequence[bytes | Pause | Cut] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})


@dataclass
class Seen:
    """One request that came in; names of headers are in lower case.

    ``client_left`` is set when its client closed the connection before the end.
    """

    path: str
    headers: dict[str, str]
    body: Any
    client_left: threading.Event = field(default_factory=threading.Event)


def event(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed chat completion. With ``delta`` None it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def deltas(*texts: str) -> list[bytes]:
    """Chunks with these texts."""
    return [event({"content": text}) for text in texts]


def ending(finish_reason: str = "stop") -> list[bytes]:
    """The chunks at the end of an answer: why it ended, what it cost."""
    usage = {"prompt_tokens": 120, "completion_tokens": 34, "total_tokens": 154}
    return [event({}, finish_reason), event(None, usage=usage), b"data: [DONE]\n\n"]


def whole(*texts: str, finish_reason: str = "stop") -> Reply:
    """A whole answer."""
    return Reply([event({"role": "assistant", "content": ""}), *deltas(*texts), *ending(finish_reason)])


def problem(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI's API gives it."""
    body = json.dumps({"error": {"message": message, "type": "e", "code": None}}).encode()
    return Reply([body], status, {"Content-Type": "application/json", **headers})


class ReplayServer:
    """A running server. It answers with ``replies`` in turn, and with the last of them from then on.

    In a text of a reply ``{tag}`` stands for the tag of the request's prompt, found as ``<passage TAG 1>``.
    """

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            server_of = server

        self._http = LoopbackHttp(Handler)

    @property
    def base_url(self) -> str:
        """Ends in /v1."""
        return f"{self._http.url}/v1"

    def reply(self, *replies: Reply) -> None:
        """Answer the next requests so."""
        with self.lock:
            self.replies, self.seen = list(replies), []

    def next_reply(self, seen: Seen) -> Reply:
        """Note a request and give its answer."""
        with self.lock:
            self.seen.append(seen)
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def close(self) -> None:
        """Listen no more."""
        self._http.close()


class _Handler(BaseHTTPRequestHandler):
    server_of: ReplayServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = Seen(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
        reply = self.server_of.next_reply(seen)
        tag = _tag(body)
        self.send_response(reply.status)
        for key, value in reply.headers.items():
            self.send_header(key, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for part in reply.parts:
                if isinstance(part, Cut):
                    self.close_connection = True
                    return
                if isinstance(part, Pause):
                    if client_leaves_within(self.connection, part.seconds):
                        raise ConnectionError("the client left")
                else:
                    self._send(part.replace(b"{tag}", tag))
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            seen.client_left.set()
            self.close_connection = True

    def _send(self, data: bytes) -> None:
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _tag(body: Any) -> bytes:
    text = "".join(message["content"] for message in body["messages"])
    _, found, rest = text.partition("\n<passage ") if not text.startswith("<passage ") else ("", "x", text[9:])
    return rest.partition(" ")[0].encode() if found else b""


@contextmanager
def running() -> Iterator[ReplayServer]:
    """A server for the time of a block."""
    server = ReplayServer()
    try:
        yield server
    finally:
        server.close()
