"""How a server is reached: what both clients check and send."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from ragstack.errors import InputError
from ragstack.version import __version__

_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServerSettings:
    """``address`` without a trailing slash. ``timeout_s`` bounds connecting, and each wait for bytes."""

    address: str
    api_key: SecretStr | None
    timeout_s: float
    max_retries: int

    @classmethod
    def checked(cls, url: str, api_key: SecretStr | str | None, timeout_s: float, max_retries: int) -> ServerSettings:
        """Raises InputError for what cannot be used; the key is in no message."""
        try:
            parts = urlsplit(url)
            is_usable = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
            )
            has_user, _ = parts.username is not None or parts.password is not None, parts.port
            httpx.URL(url)
        except (ValueError, TypeError, AttributeError, httpx.InvalidURL) as error:
            raise InputError("the server's url cannot be read.", hint=_EXAMPLE) from error
        if has_user:
            raise InputError("the server's url holds a user or a password.", hint="Pass the key as api_key.")
        if not is_usable:
            raise InputError(f"{url!r} is not the address of a server.", hint=_EXAMPLE)
        if not timeout_s > 0 or max_retries < 0:
            raise InputError(f"timeout_s is above 0 and max_retries 0 or more; got {timeout_s!r} and {max_retries!r}.")
        key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        if key is not None and not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
            raise InputError("api_key holds characters that no key has.", hint="Check for line breaks around it.")
        return cls(url.rstrip("/"), key, float(timeout_s), max_retries)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every request."""
        headers = {"user-agent": f"ragstack/{__version__}", "content-type": "application/json"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        return headers

    @property
    def timeout(self) -> httpx.Timeout:
        """The driver's form."""
        return httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, _CONNECT_TIMEOUT_S))


_EXAMPLE = "Pass an address such as http://127.0.0.1:8000."
