"""What is measured over HTTP: embeddings, rerankings and queries at any server, in its own wire format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx
from pydantic import SecretStr
from pydantic_core import from_json

from ragstack.bench.load import Failed, Good, Outcome
from ragstack.bench.plan import Load
from ragstack.bench.target import RequestFailedError, Target, TargetFacts
from ragstack.bench.wire import BenchApi, told_tokens
from ragstack.bench.work import AnyWork, WorkMaker
from ragstack.errors import InputError
from ragstack.inference.batch_counts import BatchTokens
from ragstack.inference.http_errors import HttpReply
from ragstack.version import __version__

_MESSAGE_SHOWN = 200
_MAX_REPLY_BYTES = 1 << 30

Body: TypeAlias = Callable[[AnyWork], Any]
"""The JSON of the request that asks for some work."""

Check: TypeAlias = Callable[[Any, AnyWork], dict[str, float]]
"""Raises ValueError for a reply that is not what was asked for; gives seconds by stage, where the reply has them."""


@dataclass(frozen=True)
class RemoteApi:
    """Where requests go, and how they and their replies look."""

    api: BenchApi
    url: str
    body: Body
    check: Check


@dataclass
class RemoteEndpoint:
    """A server. ``timeout_s`` bounds each request, from connecting to its last byte. Requests are never repeated."""

    remote: RemoteApi
    maker: WorkMaker
    model: str | None
    api_key: SecretStr | None
    timeout_s: float
    max_connections: int
    _http: httpx.AsyncClient | None = field(default=None, init=False)
    _headers: dict[str, str] = field(default_factory=dict, init=False)
    _seen: dict[str, str] = field(default_factory=dict, init=False)

    is_remote = True

    def check(self, loads: Sequence[Load]) -> None:
        """What the server reads, only it knows; but there must be an address. Raises InputError."""
        try:
            httpx.URL(self.remote.url)
        except httpx.InvalidURL as error:
            raise InputError(f"--url: {error}.", hint="As in: http://127.0.0.1:8000/v1") from error

    def facts(self) -> TargetFacts:
        """The URL, and what replies said of server and model."""
        facts = {"api": self.remote.api, "url": self.remote.url, **self._seen}
        return TargetFacts("remote", self.model or self._seen.get("model", ""), self.maker.tokenizer_name, facts)

    def target(self, load: Load) -> Target:
        """See :class:`ragstack.bench.target.Endpoint`."""
        return _RemoteTarget(self, load)

    async def close(self) -> None:
        """See :class:`ragstack.bench.target.Endpoint`."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def post(self, content: bytes) -> HttpReply:
        """The answer, read whole. Raises RequestFailedError."""
        try:
            return await asyncio.wait_for(self._posted(content), self.timeout_s)
        except (asyncio.TimeoutError, httpx.TimeoutException) as error:
            raise RequestFailedError("timeout", f"no answer within {self.timeout_s:g} s") from error
        except httpx.HTTPError as error:
            kind = "no connection" if isinstance(error, httpx.ConnectError) else "broken connection"
            raise RequestFailedError(kind, self.brief(str(error) or type(error).__name__)) from error

    def note(self, reply: Any, headers: Mapping[str, str]) -> None:
        """Keep what the first reply says of server and model."""
        if self._seen:
            return
        self._seen["server"] = self.brief(headers.get("server", "unknown"))
        model = reply.get("model") if isinstance(reply, dict) else None
        if isinstance(model, str):
            self._seen["model"] = self.brief(model)

    def brief(self, text: str) -> str:
        """One line of at most 200 characters, the key masked."""
        if self.api_key is not None and self.api_key.get_secret_value():
            text = text.replace(self.api_key.get_secret_value(), "**********")
        text = " ".join(text.split())
        return text if len(text) <= _MESSAGE_SHOWN else text[:_MESSAGE_SHOWN] + "…"

    async def _posted(self, content: bytes) -> HttpReply:
        async with self._client().stream("POST", self.remote.url, content=content) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            found = bytearray()
            async for part in response.aiter_bytes():
                found += part
                if len(found) > _MAX_REPLY_BYTES:
                    raise RequestFailedError("unusable answer", f"more than {_MAX_REPLY_BYTES / 1e6:,.0f} MB")
            return HttpReply(response.status_code, bytes(found), headers)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # made in the event loop that it belongs to
            headers = {"User-Agent": f"ragstack/{__version__}", "Content-Type": "application/json"}
            if self.api_key is not None:
                headers["Authorization"] = f"Bearer {self.api_key.get_secret_value()}"
            limits = httpx.Limits(max_connections=self.max_connections, max_keepalive_connections=self.max_connections)
            self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=self.timeout_s)
        return self._http


@dataclass(frozen=True)
class _RemoteTarget:
    endpoint: RemoteEndpoint
    load: Load

    def request(self, number: int) -> _RemoteRequest:
        work = self.endpoint.maker.work(self.load, number)
        content = json.dumps(self.endpoint.remote.body(work), ensure_ascii=False).encode("utf-8")
        return _RemoteRequest(self.endpoint, work, content)

    def batch_tokens(self) -> BatchTokens | None:
        return None


@dataclass
class _RemoteRequest:
    endpoint: RemoteEndpoint
    work: AnyWork
    content: bytes
    reply: HttpReply | None = None

    async def send(self) -> None:
        self.reply = await self.endpoint.post(self.content)

    def outcome(self) -> Outcome:
        reply = self.reply
        assert reply is not None  # it was sent
        if not reply.is_success:
            return Failed(f"status {reply.status}", self.endpoint.brief(reply.detail))
        try:
            found = from_json(reply.content)
            stages = self.endpoint.remote.check(found, self.work)
        except ValueError as error:
            said = reply.content[:_MESSAGE_SHOWN].decode("utf-8", "replace")
            return Failed("unusable answer", self.endpoint.brief(f"{error}: {said}"))
        self.endpoint.note(found, reply.headers)
        return Good(self.work.counted, told_tokens(found, reply.headers), stages)
