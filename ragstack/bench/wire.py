"""What embedding APIs have on the wire: paths, bodies, replies, and the tokens that a server says it counted. Pure.

Rerankers' bodies and replies are those of :mod:`ragstack.reranking.remote_apis`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ragstack.embedding.base import InputType
from ragstack.errors import InputError

BenchApi: TypeAlias = Literal["openai", "nim", "tei", "cohere", "ragstack"]
EncodingFormat: TypeAlias = Literal["float", "base64"]

EMBED_APIS: tuple[BenchApi, ...] = get_args(BenchApi)
RERANK_APIS: tuple[BenchApi, ...] = ("nim", "tei", "cohere", "ragstack")
QUERY_APIS: tuple[BenchApi, ...] = ("ragstack",)

_NEEDS_MODEL: frozenset[BenchApi] = frozenset({"openai", "nim", "cohere"})
_WITHOUT_PATH: dict[BenchApi, str] = {"openai": "/v1", "nim": "/v1", "ragstack": "/v1"}
"""Where the APIs are on a server whose URL names no path. Ours is always named without one."""


@dataclass(frozen=True, slots=True)
class EmbedRequestBody:
    """What an embedding request asks for."""

    model: str | None
    texts: Sequence[str]
    input_type: InputType
    encoding_format: EncodingFormat
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class EmbedApi:
    """One API: where it is, what it is sent, and what is read of its replies: the length of each vector."""

    path: str
    body: Callable[[EmbedRequestBody], dict[str, Any]]
    dims: Callable[[Any, int], list[int]]


def base_url(url: str, api: BenchApi) -> str:
    """Where the paths of an API begin: ``url``, or its usual place on a server that is named without a path."""
    base = url.rstrip("/")
    _, _, after = base.partition("://")
    return base if "/" in after else base + _WITHOUT_PATH.get(api, "")


def require_api(api: BenchApi, known: Sequence[BenchApi], what: str, model: str | None) -> None:
    """Raise InputError for an API that has no such requests, and for one that needs the name of a model."""
    if api not in known:
        raise InputError(f"--api {api} has no {what}.", hint=f"These have: {', '.join(known)}.")
    if model is None and api in _NEEDS_MODEL and what != "queries":
        raise InputError(f"--api {api} needs the name of the model.", hint="Give it with --model.")


def _openai_body(request: EmbedRequestBody) -> dict[str, Any]:
    body: dict[str, Any] = {"input": list(request.texts), "encoding_format": request.encoding_format}
    if request.model is not None:
        body["model"] = request.model
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def _nim_body(request: EmbedRequestBody) -> dict[str, Any]:
    return {**_openai_body(request), "input_type": request.input_type, "truncate": "NONE"}


def _tei_body(request: EmbedRequestBody) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": list(request.texts), "truncate": False}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def _cohere_body(request: EmbedRequestBody) -> dict[str, Any]:
    input_type = "search_query" if request.input_type == "query" else "search_document"
    body: dict[str, Any] = {
        "model": request.model,
        "texts": list(request.texts),
        "input_type": input_type,
        "embedding_types": ["base64" if request.encoding_format == "base64" else "float"],
        "truncate": "NONE",
    }
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    return body


def _openai_dims(reply: Any, count: int) -> list[int]:
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list):
        raise ValueError("no list of embeddings under 'data'")
    found: dict[int, int] = {}
    for place, item in enumerate(data):
        index = item.get("index", place) if isinstance(item, dict) else None
        if not isinstance(index, int) or not 0 <= index < count or index in found:
            raise ValueError(f"an embedding of the text {index!r}, or two; there were {count}")
        found[index] = _dim(item.get("embedding"))
    return list(found.values())


def _tei_dims(reply: Any, count: int) -> list[int]:
    if not isinstance(reply, list):
        raise ValueError("no list of embeddings")
    return [_dim(vector) for vector in reply]


def _cohere_dims(reply: Any, count: int) -> list[int]:
    found = reply.get("embeddings") if isinstance(reply, dict) else None
    if isinstance(found, dict):  # version 2 tells them by type
        found = next((vectors for vectors in found.values() if isinstance(vectors, list)), None)
    if not isinstance(found, list):
        raise ValueError("no list under 'embeddings'")
    return [_dim(vector) for vector in found]


def _dim(vector: Any) -> int:
    if isinstance(vector, str):
        stripped = vector.rstrip("=")
        size, rest = divmod(len(stripped) * 3 // 4, 4)
        if not size or rest:
            raise ValueError("an embedding in base64 that holds no whole float32 numbers")
        return size
    # All numbers, which a look at the first alone would not tell: a NaN is null in some servers' JSON.
    if not isinstance(vector, list) or not vector or not all(type(number) in (float, int) for number in vector):
        raise ValueError("an embedding that is no list of numbers")
    return len(vector)


APIS: dict[BenchApi, EmbedApi] = {
    # platform.openai.com/docs/api-reference/embeddings
    "openai": EmbedApi("/embeddings", _openai_body, _openai_dims),
    # docs.nvidia.com/nim/nemo-retriever/text-embedding
    "nim": EmbedApi("/embeddings", _nim_body, _openai_dims),
    # huggingface/text-embeddings-inference, router/src/http/types.rs
    "tei": EmbedApi("/embed", _tei_body, _tei_dims),
    # docs.cohere.com/reference/embed
    "cohere": EmbedApi("/embed", _cohere_body, _cohere_dims),
    # docs/model-server.md
    "ragstack": EmbedApi("/embeddings", _nim_body, _openai_dims),
}


def check_embeddings(api: BenchApi, reply: Any, count: int) -> int:
    """The length of the vectors of ``count`` texts. Raises ValueError where one is missing or unlike the others."""
    dims = APIS[api].dims(reply, count)
    if len(dims) != count:
        raise ValueError(f"{len(dims)} embeddings of {count} texts")
    if len(set(dims)) != 1:
        raise ValueError(f"embeddings of {min(dims)} and of {max(dims)} dimensions")
    return dims[0]


def told_tokens(reply: Any, headers: Mapping[str, str]) -> int | None:
    """The tokens that the server counted: OpenAI's, NIM's and Jina's ``usage``, Cohere's ``meta``, TEI's header."""
    if isinstance(reply, dict):
        for path in (
            ("usage", "total_tokens"),
            ("usage", "prompt_tokens"),
            ("meta", "billed_units", "input_tokens"),
            ("meta", "tokens", "input_tokens"),
        ):
            found: Any = reply
            for key in path:
                found = found.get(key) if isinstance(found, dict) else None
            if isinstance(found, (int, float)) and not isinstance(found, bool) and found > 0:
                return int(found)
    header = headers.get("x-compute-tokens", "")
    return int(header) if header.isascii() and header.isdecimal() and int(header) > 0 else None
