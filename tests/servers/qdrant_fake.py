"""Qdrant's REST interface on loopback, over the client's local mode: what a server gets, and what it may answer.

It reads JSON floats as serde_json does, which is not to the last bit, keeps payload indexes (their keys, no more),
asks for a key when it has one, and fails on demand. It stands in for a server where none can be had.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models


@dataclass
class Fault:
    """What the next ``times`` requests whose path ends with ``path`` meet instead of an answer.

    ``status`` answers so; ``drop`` closes the connection, after the request was carried out; ``hang_s`` waits first.
    """

    path: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"status": {"error": "made to fail"}}'
    drop: bool = False
    hang_s: float = 0.0


@dataclass
class Seen:
    """One request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class FakeQdrant:
    """A running server; ``keeps_metadata`` False makes it one older than 1.16."""

    def __init__(self, version: str = "1.16.0", keeps_metadata: bool = True, api_key: str = "") -> None:
        self.version, self.keeps_metadata, self.api_key = version, keeps_metadata, api_key
        self.refused_key_status = 401
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.refused_ids: set[str] = set()
        self.indexes: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()
        self.local = QdrantClient(":memory:")
        fake = self

        class Handler(_Handler):
            server_of = fake

        self._handler = Handler
        self._port = 0
        self.start()

    def start(self) -> None:
        """Listen, after :meth:`stop` on the same port with what was stored."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def close(self) -> None:
        """Stop, and forget what was stored."""
        self.stop()
        self.local.close()

    def fault_for(self, path: str) -> Fault | None:
        """The fault that a request meets, used up by one."""
        for fault in self.faults:
            if fault.times > 0 and path.endswith(fault.path):
                fault.times -= 1
                return fault
        return None

    def answer(self, seen: Seen) -> Any:
        """Carry out one request and give its result; KeyError for an unknown one, ValueError for a bad one."""
        parts = [unquote(part) for part in seen.path.split("/")[1:]]
        if parts == [""]:
            return None
        if parts == ["collections"]:
            return {"collections": [{"name": each.name} for each in self.local.get_collections().collections]}
        name, rest = parts[1], "/".join(parts[2:])
        if rest == "":
            return self._collection(seen, name)
        if rest == "exists":
            return {"exists": self.local.collection_exists(name)}
        if not self.local.collection_exists(name):
            raise LookupError(name)
        return getattr(self, "_on_" + rest.replace("/", "_"))(name, seen)

    def _collection(self, seen: Seen, name: str) -> Any:
        body = seen.body
        if seen.method == "DELETE":
            self.indexes.pop(name, None)
            return self.local.delete_collection(name)
        if seen.method == "PUT":
            config = models.CreateCollection.model_validate(body)
            return self.local.create_collection(
                name,
                vectors_config=config.vectors,
                sparse_vectors_config=config.sparse_vectors,
                metadata=config.metadata if self.keeps_metadata else None,
            )
        if not self.local.collection_exists(name):
            raise LookupError(name)
        if seen.method == "PATCH":
            return self.local.update_collection(name, metadata=body.get("metadata") if self.keeps_metadata else None)
        told = json.loads(self.local.get_collection(name).model_dump_json())
        told["payload_schema"] = {
            key: {"data_type": kind if isinstance(kind, str) else kind["type"], "points": 0}
            for key, kind in self.indexes.get(name, {}).items()
        }
        return told

    def _on_index(self, name: str, seen: Seen) -> Any:
        self.indexes.setdefault(name, {})[seen.body["field_name"]] = seen.body["field_schema"]
        return _DONE

    def _on_points(self, name: str, seen: Seen) -> Any:
        if seen.method == "POST":
            asked = models.PointRequest.model_validate(seen.body)
            return _plain(self.local.retrieve(name, asked.ids, asked.with_payload, asked.with_vector))
        points = models.PointsList.model_validate(seen.body).points
        bad = [str(point.id) for point in points if str(point.id) in self.refused_ids]
        if bad:
            raise ValueError(f"Wrong input: point {bad[0]} is not liked")
        self.local.upsert(name, points)
        return _DONE

    def _on_points_delete(self, name: str, seen: Seen) -> Any:
        self.local.delete(name, TypeAdapter(models.PointsSelector).validate_python(seen.body))
        return _DONE

    def _on_points_batch(self, name: str, seen: Seen) -> Any:
        operations = models.UpdateOperations.model_validate(seen.body).operations
        self.local.batch_update_points(name, operations)
        return [_DONE for _ in operations]

    def _on_points_count(self, name: str, seen: Seen) -> Any:
        asked = models.CountRequest.model_validate(seen.body)
        return _plain(self.local.count(name, asked.filter))

    def _on_points_scroll(self, name: str, seen: Seen) -> Any:
        asked = models.ScrollRequest.model_validate(seen.body)
        points, following = self.local.scroll(
            name, asked.filter, asked.limit, None, asked.offset, asked.with_payload, asked.with_vector or False
        )
        return {"points": _plain(points), "next_page_offset": following}

    def _on_points_query(self, name: str, seen: Seen) -> Any:
        asked = models.QueryRequest.model_validate(seen.body)
        return _plain(self.local.query_batch_points(name, [asked.model_copy(update={"params": None})])[0])

    def _on_points_query_batch(self, name: str, seen: Seen) -> Any:
        asked = models.QueryRequestBatch.model_validate(seen.body).searches
        exact = [request.model_copy(update={"params": None}) for request in asked]
        return _plain(self.local.query_batch_points(name, exact))


_DONE = {"operation_id": 0, "status": "completed"}


def _plain(value: Any) -> Any:
    return json.loads(TypeAdapter(Any).dump_json(value))


class _Handler(BaseHTTPRequestHandler):
    server_of: FakeQdrant
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        fake = self.server_of
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content, parse_float=serde_float) if content else None
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        seen = Seen(self.command, parts.path, query, body, dict(self.headers.items()))
        with fake.lock:
            fake.seen.append(seen)
            fault = fake.fault_for(parts.path)
        if fault is not None and not fault.drop:
            time.sleep(fault.hang_s)
            return self._reply(fault.status or 200, fault.body, fault.headers)
        if fake.api_key and self.headers.get("api-key") != fake.api_key and parts.path != "/":
            return self._reply(fake.refused_key_status, b"Must provide an API key or an Authorization bearer token")
        with fake.lock:
            status, reply = self._carried_out(fake, seen)
        if fault is not None:
            self.close_connection = True
            return None
        return self._reply(status, json.dumps(reply).encode())

    def _carried_out(self, fake: FakeQdrant, seen: Seen) -> tuple[int, Any]:
        if seen.path == "/":
            return 200, {"title": "qdrant - vector search engine", "version": fake.version}
        try:
            return 200, {"time": 0.0, "status": "ok", "result": fake.answer(seen)}
        except LookupError as error:
            return 404, {"time": 0.0, "status": {"error": f"Not found: Collection `{error}` doesn't exist!"}}
        except ValueError as error:
            return 400, {"time": 0.0, "status": {"error": str(error)[:300]}}

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - http.server asks for these names

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serde_float(text: str) -> float:
    """A JSON float as serde_json reads it without its feature ``float_roundtrip``; ValueError where it refuses."""
    sign, text = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    mantissa, _, power = text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    significand, exponent = 0, int(power or 0)
    kept = True
    for digits, step in ((whole, 0), (fraction, -1)):
        for digit in digits:
            if kept and significand * 10 + int(digit) < 2**64:
                significand, exponent = significand * 10 + int(digit), exponent + step
            else:
                kept = False
                exponent += 1 + step
    number = float(significand)
    while abs(exponent) > 308:
        if number == 0.0:
            return sign * number
        if exponent > 0:
            raise ValueError("number out of range")
        number, exponent = number / 1e308, exponent + 308
    number = number * 10.0**exponent if exponent >= 0 else number / 10.0**-exponent
    if math.isinf(number):
        raise ValueError("number out of range")
    return sign * number


@contextmanager
def running(**options: Any) -> Iterator[FakeQdrant]:
    """A fake server for the time of a block."""
    fake = FakeQdrant(**options)
    try:
        yield fake
    finally:
        fake.close()
