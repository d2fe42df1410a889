"""The door: every request passes here before any of its body is read.

In order: without keys, where the request comes from; who sends it; how often; how large its body is. Routes then ask
for scopes (:func:`ragstack.api.security.caller_with`). :class:`SecurityHeaders` is for what goes out.

Without keys the server is open to whoever reaches it, so it must be this machine alone that does. A web page in a
browser on this machine is the way around that: it may send requests to loopback addresses (told by ``Origin`` and
``Sec-Fetch-Site``), and make the browser take this server for its own (DNS rebinding, told by ``Host``).
"""

from __future__ import annotations

from urllib.parse import urlsplit

import anyio
from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragstack.api.errors import error_response
from ragstack.api.rate_limits import RateLimiter
from ragstack.api.request_errors import (
    ForbiddenError,
    RequestError,
    RequestTimeoutError,
    TooLargeError,
    TooManyRequestsError,
)
from ragstack.api.security import ANONYMOUS, CALLER_KEY, Caller, CallerCheck, is_loopback
from ragstack.config.models import ServerConfig
from ragstack.errors import RagstackError

UPLOAD_PATH = "/v1/documents"
_ALWAYS_OPEN = ("/v1/health/live",)
"""Not counted against anybody's rate: what asks whether the process lives must get an answer."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Put on every response that does not say otherwise itself."""


class SecurityHeaders:
    """Middleware: puts :data:`SECURITY_HEADERS` on every response, errors included. It must be the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def install_guard(app: FastAPI, config: ServerConfig, callers: CallerCheck) -> None:
    """Put the door before an application's routes. What names requests and answers crashes goes around it."""
    app.add_middleware(Guard, config=config, callers=callers)
    if config.security.cors_origins:
        # Further out than the door: a preflight request carries no key and gets its answer here.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.security.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id"],
            expose_headers=["X-Request-Id", "X-Citation-Status", "Retry-After"],
            max_age=600,
        )


class Guard:
    """The ASGI middleware of this module."""

    def __init__(self, app: ASGIApp, config: ServerConfig, callers: CallerCheck) -> None:
        self._app = app
        self._config = config
        self._callers = callers
        limits = config.limits
        self._rates = RateLimiter(limits.requests_per_s, limits.burst) if limits.requests_per_s is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "websocket":
            # There is no route for it; the door answers, so that none can be added past the checks.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _GuardedExchange(scope, receive, send, self._config.limits.body_idle_s)
        try:
            self._admit(scope)
            guarded.max_body_bytes = self._max_body_bytes(scope)
            guarded.refuse_announced_size()
            await self._app(scope, guarded.receive, guarded.send)
        except RagstackError as error:
            if guarded.has_started:
                raise
            await error_response(Request(scope), error)(scope, receive, send)
        else:
            if guarded.refused is not None and not guarded.has_started:
                await error_response(Request(scope), guarded.refused)(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Leave the caller in the scope. Raises what refuses the request at once."""
        headers = Headers(scope=scope)
        require_known_host(headers, scope, self._config)
        caller: Caller | RagstackError
        try:
            caller = self._callers.caller(credentials_of(headers))
        except RagstackError as error:
            caller = error
        self._take_turn(caller, scope)
        # What is open to everybody (health, the page) is only read; all else is refused before its body is.
        if isinstance(caller, RagstackError) and scope["method"] not in _SAFE_METHODS:
            raise caller
        if caller is ANONYMOUS and not self._config.security.allow_public_without_keys:
            require_this_machine(headers, scope, self._config)
        scope[CALLER_KEY] = caller

    def _take_turn(self, caller: Caller | RagstackError, scope: Scope) -> None:
        if self._rates is None or scope["path"] in _ALWAYS_OPEN:
            return
        client = (scope.get("client") or ("", 0))[0]
        if isinstance(caller, Caller) and caller.key_id:
            name = f"key {caller.key_id}"
        elif is_network_address(client) and not is_loopback(client):
            name = f"address {client}"
        else:
            return  # the user of this machine, who owns the server
        wait_s = self._rates.wait_s(name)
        if wait_s > 0:
            limits = self._config.limits
            raise TooManyRequestsError(
                f"more than {limits.requests_per_s:g} requests a second.",
                wait_s,
                hint="Wait for the seconds in Retry-After, or ask for a larger server.limits.requests_per_s.",
            )

    def _max_body_bytes(self, scope: Scope) -> int:
        if scope["path"].rstrip("/") == UPLOAD_PATH:
            return self._config.documents.max_request_bytes
        return self._config.limits.max_body_bytes


class _GuardedExchange:
    """One request and its response: the body is counted on its way in, headers are added on the way out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, idle_s: float) -> None:
        self._scope = scope
        self._idle_s = idle_s
        self._is_whole = False
        self._receive = receive
        self._send = send
        self._received = 0
        self.max_body_bytes = 0
        self.has_started = False
        self.refused: RequestError | None = None

    def refuse_announced_size(self) -> None:
        """Raise TooLargeError for a Content-Length over the limit, before a byte is read."""
        announced = Headers(scope=self._scope).get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > self.max_body_bytes:
            raise self._error()

    async def receive(self) -> Message:
        """The next message. Raises TooLargeError once the body is larger than the limit, whatever was announced, and
        RequestTimeoutError when nothing of it comes for too long."""
        if self._is_whole:
            return await self._receive()
        with anyio.move_on_after(self._idle_s) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            self.refused = RequestTimeoutError(f"nothing of the body came for {self._idle_s:g} s.")
            raise self.refused
        if message["type"] == "http.request":
            self._is_whole = not message.get("more_body", False)
            self._received += len(message.get("body", b""))
            if self._received > self.max_body_bytes:
                self.refused = self._error()
                raise self.refused
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, unless the body was refused: a framework turns that into an answer of its own."""
        if self.refused is not None and not self.has_started:
            return
        self.has_started = self.has_started or message["type"] == "http.response.start"
        await self._send(message)

    def _error(self) -> TooLargeError:
        return TooLargeError(
            f"the body is larger than {self.max_body_bytes} bytes.",
            hint="Send it in parts, or raise server.limits.max_body_bytes"
            " (uploads: server.documents.max_request_bytes).",
            headers={"Connection": "close"},  # what is left of the body is not read
        )


def credentials_of(headers: Headers) -> list[str]:
    """What a request presents as API keys: ``Authorization: Bearer`` and ``X-API-Key``, each value once."""
    found = [value.strip() for value in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        kind, _, credential = value.strip().partition(" ")
        if kind.lower() == "bearer":  # another kind is for a proxy before this server
            found.append(credential.strip())
    return list(dict.fromkeys(credential for credential in found if credential))


def require_known_host(headers: Headers, scope: Scope, config: ServerConfig) -> None:
    """With ``server.security.allowed_hosts``: raise ForbiddenError for a request under another name."""
    allowed = config.security.allowed_hosts
    host = _host_name(headers.get("host", ""))
    if allowed and host not in (name.lower() for name in allowed) and not _is_own_name(host, scope):
        raise ForbiddenError(
            "the server is not known under the name in the Host header.",
            hint="Name it in server.security.allowed_hosts.",
        )


def require_this_machine(headers: Headers, scope: Scope, config: ServerConfig) -> None:
    """Without keys: raise ForbiddenError for a request that did not come from this machine, or that another site's
    page made a browser send."""
    hint = "Make a key with `ragstack key create NAME`, and send it."
    own = (scope.get("server") or ("", None))[0] or ""
    if is_network_address(own) and not is_loopback(own):
        raise ForbiddenError("without API keys only this machine is answered.", hint=hint)
    host = _host_name(headers.get("host", ""))
    named = host in (name.lower() for name in config.security.allowed_hosts)
    if not named and not _is_own_name(host, scope):
        raise ForbiddenError(
            "without API keys the Host header must name this machine (localhost, 127.0.0.1).",
            hint=f"{hint} Or name the host in server.security.allowed_hosts.",
        )
    if not named and any(name in headers for name in _PROXY_HEADERS):
        raise ForbiddenError(
            "the request came through a proxy, and there is no API key: everybody behind it would be let in.",
            hint=f"{hint} Or name the proxy's host in server.security.allowed_hosts.",
        )
    origin = headers.get("origin")
    if origin is not None:
        if origin not in config.security.cors_origins and not _is_same(origin, headers.get("host", "")):
            raise ForbiddenError(
                "the request comes from the page of another site.",
                hint="Name its origin in server.security.cors_origins if that is meant.",
            )
    elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not (
        scope["method"] in _SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
    ):
        raise ForbiddenError("the request comes from the page of another site.", hint=hint)


def is_network_address(host: str) -> bool:
    """True for an IP address: what a server sees on a network. Sockets of other kinds, and tests, have names."""
    return ":" in host or host.replace(".", "").isdigit()


def _is_own_name(host: str, scope: Scope) -> bool:
    own = (scope.get("server") or ("", None))[0] or ""
    return bool(host) and (is_loopback(host) or host == own.strip("[]").lower())


def _host_name(header: str) -> str:
    """The name in a Host header, without port and brackets; empty for what is none."""
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return ""
    return name or ""


def _is_same(origin: str, host: str) -> bool:
    """True when a page of this origin was served under this Host header. The scheme may differ behind a proxy."""
    try:
        left, right = urlsplit(origin), urlsplit(f"{urlsplit(origin).scheme}://{host}")
        ports = [part.port or _DEFAULT_PORTS.get(part.scheme) for part in (left, right)]
    except ValueError:
        return False
    return bool(left.hostname) and left.hostname == right.hostname and ports[0] == ports[1]
