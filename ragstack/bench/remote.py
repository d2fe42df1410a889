"""What is measured over HTTP: embeddings, rerankings and queries at any server, in its own wire format."""

from __future__ import annotations

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
from ragstack.bench.work import Question, RerankWork, TextWork, WorkMaker
from ragstack.inference.batch_counts import BatchTokens
from ragstack.version import __version__

_MESSAGE_SHOWN = 200

Body: TypeAlias = Callable[[TextWork | RerankWork | Question], Any]
"""The JSON of the request that asks for some work."""

Check: TypeAlias = Callable[[Any, TextWork | RerankWork | Question], dict[str, float]]
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
    """A server. ``timeout_s`` bounds connecting and each wait for bytes. Requests are never repeated."""

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
        """Only the server knows what it reads."""

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

    async def post(self, content: bytes) -> httpx.Response:
        """The answer, read whole. Raises RequestFailedError."""
        try:
            return await self._client().post(self.remote.url, content=content)
        except httpx.HTTPError as error:
            raise RequestFailedError(_kind_of(error), self.brief(str(error) or type(error).__name__)) from error

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

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # made in the event loop that it belongs to
            headers = {"User-Agent": f"ragstack/{__version__}", "Content-Type": "application/json"}
            if self.api_key is not None:
                headers["Authorization"] = f"Bearer {self.api_key.get_secret_value()}"
            limits = httpx.Limits(max_connections=self.max_connections, max_keepalive_connections=self.max_connections)
            timeout = httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0))
            self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
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
    work: TextWork | RerankWork | Question
    content: bytes
    response: httpx.Response | None = None

    async def send(self) -> None:
        self.response = await self.endpoint.post(self.content)

    def outcome(self) -> Outcome:
        response = self.response
        assert response is not None  # it was sent
        if not response.is_success:
            return Failed(f"status {response.status_code}", self.endpoint.brief(_said(response)))
        try:
            reply = from_json(response.content)
            stages = self.endpoint.remote.check(reply, self.work)
        except ValueError as error:
            return Failed("unusable answer", self.endpoint.brief(f"{error}: {response.text[:_MESSAGE_SHOWN]}"))
        self.endpoint.note(reply, response.headers)
        return Good(self.work.counted, told_tokens(reply, response.headers), stages)


def _kind_of(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return "broken connection"


def _said(response: httpx.Response) -> str:
    """What the server says of its fault, in whichever of the usual shapes."""
    try:
        found: Any = response.json()
    except (ValueError, RecursionError):
        return response.text if not response.text.lstrip().startswith("<") else ""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)
