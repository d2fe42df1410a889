"""What each API can be asked, where it is, and the tokens that its server says it counted. Pure.

Bodies and replies are those of :mod:`ragstack.embedding.remote_apis` and :mod:`ragstack.reranking.remote_apis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from ragstack.config.embedders import EmbedApiName
from ragstack.errors import InputError

BenchApi: TypeAlias = Literal["openai", "nim", "tei", "cohere", "ragstack"]
EncodingFormat: TypeAlias = Literal["float", "base64"]

EMBED_APIS: tuple[BenchApi, ...] = get_args(BenchApi)
RERANK_APIS: tuple[BenchApi, ...] = ("nim", "tei", "cohere", "ragstack")
QUERY_APIS: tuple[BenchApi, ...] = ("ragstack",)

_NEEDS_MODEL: frozenset[BenchApi] = frozenset({"openai", "nim", "cohere"})
_BELOW_V1: frozenset[BenchApi] = frozenset({"openai", "nim", "ragstack"})
"""APIs whose paths begin with /v1 on a server that is named without a path."""


def spoken(api: BenchApi) -> EmbedApiName:
    """The wire format of an API: our own server is asked as a NIM is."""
    return "nim" if api == "ragstack" else api


def base_url(url: str, api: BenchApi) -> str:
    """Where the paths of an API begin: ``url``, or its usual place on a server that is named without a path."""
    base = url.rstrip("/")
    _, _, after = base.partition("://")
    return f"{base}/v1" if "/" not in after and api in _BELOW_V1 else base


def require_api(api: BenchApi, known: Sequence[BenchApi], what: str, model: str | None) -> None:
    """Raise InputError for an API that has no such requests, and for one that needs the name of a model."""
    if api not in known:
        raise InputError(f"--api {api} has no {what}.", hint=f"These have: {', '.join(known)}.")
    if model is None and api in _NEEDS_MODEL:
        raise InputError(f"--api {api} needs the name of the model.", hint="Give it with --model.")


def told_tokens(reply: Any, headers: Mapping[str, str]) -> int | None:
    """The tokens that the server counted: OpenAI's, NIM's and Jina's ``usage``, Cohere's ``meta``, TEI's header.

    Names of ``headers`` are in lower case. None where the server does not say, or says 0.
    """
    for path in (
        ("usage", "total_tokens"),
        ("usage", "prompt_tokens"),
        ("meta", "billed_units", "input_tokens"),
        ("meta", "tokens", "input_tokens"),
    ):
        found: Any = reply
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, (int, float)) and not isinstance(found, bool) and 0 < found < 2**53:
            return int(found)
    header = headers.get("x-compute-tokens", "")
    return int(header) or None if header.isascii() and header.isdecimal() and len(header) < 16 else None
