"""URLs of HTTP APIs in a config, where a key must not hide, and keys, which must fit a header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr


def require_http_url(url: str, expected: str, name: str = "URL") -> str:
    """The URL itself. Raises ValueError, saying what was ``expected``, for anything but an HTTP URL without secrets.

    ``name`` is what the message calls it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:  # brackets that do not close, a port that is none
        raise ValueError(f"expected {expected}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected {expected}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"the {name} must hold no user, password, query or fragment; a key belongs into api_key")
    return url


def require_header_value(key: SecretStr) -> SecretStr:
    """The key itself. Raises ValueError for one that no HTTP header can hold."""
    if not all("!" <= character <= "~" for character in key.get_secret_value()):
        raise ValueError("a key is made of visible ASCII characters; this one has a space, a line's end or another")
    return key


def without_keys(taken: frozenset[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What refuses, with ValueError, a body that sets one of the keys that ragstack sets itself."""

    def check(body: dict[str, Any]) -> dict[str, Any]:
        for key in sorted(taken & body.keys()):
            raise ValueError(f"{key!r} is set by ragstack itself; extra_body is for other keys")
        return body

    return check


ModelApiUrl: TypeAlias = Annotated[
    str,
    AfterValidator(
        lambda url: require_http_url(url, "http://host:port or https://host, with a path where the API has one")
    ),
]
"""Where a model's API is."""

ApiKey: TypeAlias = Annotated[SecretStr, AfterValidator(require_header_value)]
"""What is sent as ``Authorization: Bearer``."""
