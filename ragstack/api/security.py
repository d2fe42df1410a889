"""Who is calling, and what they may do.

The middleware of :mod:`ragstack.api.guard` finds out who sends a request before anything of its body is read; a
route says which scope it needs with :func:`caller_with`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from ragstack.api.keys import RESERVED_NAMES, SCOPES, KeyFile, Scope
from ragstack.api.redaction import holds_key
from ragstack.api.request_errors import AuthenticationError, ForbiddenError
from ragstack.config.models import ServerConfig
from ragstack.errors import ConfigError, InputError, RagstackError, StoreUnavailableError
from ragstack.filters import Filter

_LOG = logging.getLogger(__name__)
ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)
CALLER_KEY = "ragstack.caller"
"""Where the middleware leaves the caller, or the error that says why there is none, in a request's ASGI scope."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request. ``filter`` is put beside that of every request and cannot be widened by one.

    ``key_id`` is empty for a caller without a key of the key file. Who has the scope admin has the others too.
    """

    name: str
    scopes: frozenset[Scope]
    filter: Filter | None = None
    key_id: str = ""

    def may(self, scope: Scope) -> bool:
        """True when the caller has ``scope``."""
        return scope in self.scopes or "admin" in self.scopes


ANONYMOUS = Caller(RESERVED_NAMES[0], ALL_SCOPES)
LOCAL = Caller(RESERVED_NAMES[1], ALL_SCOPES)
"""A command on the same machine that read the server's token from the state directory."""


class CallerCheck:
    """Tells who presents a credential. Safe to call from several threads."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys
        self._local_token_sha256: bytes | None = None
        self._guard = threading.Lock()
        self._had_keys = False

    def accept_local_token(self, token: str) -> None:
        """Take ``token`` (random, at least 128 bits) as the credential of :data:`LOCAL` until the process ends."""
        self._local_token_sha256 = hashlib.sha256(token.encode()).digest()

    def needs_key(self) -> bool:
        """True once there were keys: a server that had some never opens to everybody because their file is gone."""
        with self._guard:
            self._had_keys = self._had_keys or bool(self._keys.entries())
            return self._had_keys

    def caller(self, credentials: Sequence[str]) -> Caller:
        """The caller who presents ``credentials``, of which there should be one at most.

        While there are no keys, what is no key of ragstack's is not looked at: clients of OpenAI's kind always send
        something. Raises AuthenticationError for one that is not usable, and for none where keys exist;
        StoreUnavailableError while the file of keys cannot be read: then nobody is let in.
        """
        try:
            return self._caller(credentials)
        except ConfigError as error:
            _LOG.error("%s", error)  # names the file, which is nobody's business outside
            raise StoreUnavailableError(
                "API keys cannot be checked at the moment.", hint="The server's log says why."
            ) from error

    def _caller(self, credentials: Sequence[str]) -> Caller:
        if not self.needs_key():
            # A key of ragstack's is checked all the same: who sends one believes that it protects.
            credentials = [credential for credential in credentials if holds_key(credential)]
            if not credentials:
                return ANONYMOUS
        if not credentials:
            raise AuthenticationError
        if len(credentials) > 1:
            raise AuthenticationError("the request carries two different API keys.")
        credential = credentials[0]
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        if self._local_token_sha256 is not None and hmac.compare_digest(digest, self._local_token_sha256):
            return LOCAL
        key = self._keys.find(credential)
        if key is None:
            raise AuthenticationError("the API key is not known, was revoked or has expired.")
        return Caller(key.name, frozenset(key.scopes), key.parsed_filter(), key.id)


_BEARER = HTTPBearer(auto_error=False, description="An API key made by `ragstack key create`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key in a header of its own.")


def caller_with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller of a request, who must have ``scope``."""

    async def caller(
        request: Request,
        _bearer: Annotated[object, Security(_BEARER)] = None,
        _header: Annotated[object, Security(_HEADER)] = None,
    ) -> Caller:
        found = request.scope.get(CALLER_KEY)
        if isinstance(found, RagstackError):
            raise found
        if not isinstance(found, Caller):
            raise AuthenticationError("the request came past the check of API keys.")
        if not found.may(scope):
            raise ForbiddenError(
                f"the key {found.name!r} has not the scope {scope!r}.",
                hint=f"It has: {', '.join(sorted(found.scopes))}. Ask for a key with --scope {scope}.",
            )
        return found

    return caller


def sees_everything(request: Request) -> bool:
    """True for a request of a caller without a filter, on a route that is open to everybody."""
    found = request.scope.get(CALLER_KEY)
    return isinstance(found, Caller) and found.filter is None


QueryCaller = Annotated[Caller, Depends(caller_with("query"))]
WriteCaller = Annotated[Caller, Depends(caller_with("write"))]
AdminCaller = Annotated[Caller, Depends(caller_with("admin"))]


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches. A name other than ``localhost`` is none."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def require_safe_address(host: str, has_keys: bool, config: ServerConfig) -> None:
    """Raise InputError when listening on ``host`` would let others in without a key, unless the config allows it."""
    if has_keys or is_loopback(host) or config.security.allow_public_without_keys:
        return
    raise InputError(
        f"{host} can be reached from other machines, and no API key exists: everybody could read and change the index.",
        hint="Make a key with `ragstack key create NAME --scope query`, listen on 127.0.0.1, or set"
        " server.security.allow_public_without_keys: true.",
    )
