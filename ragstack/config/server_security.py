"""Who may call the server, and how much a request may ask for."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ragstack.config.block import ConfigBlock


def _is_origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("an origin is written scheme://host[:port], such as https://search.example.org; * is refused")
    return value


class SecurityConfig(ConfigBlock):
    """Access to the server. Keys are made by `ragstack key create`, not here."""

    allow_public_without_keys: bool = Field(
        default=False, description="Serve an address that others can reach although no API key exists."
    )
    allowed_hosts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Host names that requests may come under, besides the server's own address; needed without keys"
        " behind a proxy. When given, it holds with keys too.",
    )
    cors_origins: tuple[Annotated[str, AfterValidator(_is_origin)], ...] = Field(
        default=(), description="Origins of other web pages that may call the server from a browser."
    )


class LimitsConfig(ConfigBlock):
    """What one request, and one caller, may ask for."""

    max_body_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="Larger request bodies are refused (uploads have their own limit).",
    )
    body_idle_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds that a body may pause before the request is given up."
    )
    max_history_turns: int = Field(default=50, ge=0, description="Most earlier turns of a conversation in a question.")
    max_texts: int = Field(default=2048, ge=1, description="Most texts in one request to embed or to rank.")
    max_filter_depth: int = Field(default=16, ge=1, le=32, description="Most levels of and, or, not in a filter.")
    max_filter_conditions: int = Field(
        default=256, ge=1, description="Most conditions in a filter; each value of a list counts as one."
    )
    requests_per_s: float | None = Field(
        default=50.0,
        gt=0,
        description="Requests a second that a key may send over time, and without keys an address that is not this"
        " machine's; null: any number.",
    )
    burst: int = Field(default=200, ge=1, description="Requests that may come at once after a pause.")
