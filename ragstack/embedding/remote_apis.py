"""What the embedding APIs have on the wire: paths, bodies, replies. Pure: no I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.config.embedders import EmbedApiName, RemoteEmbedderConfig
from ragstack.embedding.base import InputType

Float64Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class EmbedApi:
    """One API: where it is, what it is sent, and how its reply lists the vectors.

    ``max_batch_size`` is how many texts a request holds unless the config or the server says otherwise; ``facts`` is
    what follows ``base_url`` to learn of the model, if there is such a path. ``vectors`` gives one item for each of so
    many texts, in their order.
    """

    path: str
    facts: str | None
    max_batch_size: int
    body: Callable[[RemoteEmbedderConfig, Sequence[str], InputType], dict[str, Any]]
    vectors: Callable[[Any, int], list[Any]]


def _openai_body(config: RemoteEmbedderConfig, texts: Sequence[str], input_type: InputType) -> dict[str, Any]:
    return {
        "model": config.model,
        "input": list(texts),
        "encoding_format": config.encoding_format,
        **_given(
            dimensions=config.dimensions,
            input_type=_of_type(config, "input_type", input_type),
            task=_of_type(config, "task", input_type),
        ),
    }


def _nim_body(config: RemoteEmbedderConfig, texts: Sequence[str], input_type: InputType) -> dict[str, Any]:
    return {
        **_openai_body(config, texts, input_type),
        "input_type": _of_type(config, "input_type", input_type) or input_type,
        "truncate": "NONE",
    }


def _tei_body(config: RemoteEmbedderConfig, texts: Sequence[str], input_type: InputType) -> dict[str, Any]:
    return {
        "inputs": list(texts),
        "normalize": True,
        "truncate": False,
        **_given(dimensions=config.dimensions, prompt_name=_of_type(config, "prompt_name", input_type)),
    }


def _cohere_body(config: RemoteEmbedderConfig, texts: Sequence[str], input_type: InputType) -> dict[str, Any]:
    default = "search_query" if input_type == "query" else "search_document"
    return {
        "model": config.model,
        "texts": list(texts),
        "input_type": _of_type(config, "input_type", input_type) or default,
        "embedding_types": ["float"],
        "truncate": "NONE",
        **_given(output_dimension=config.dimensions),
    }


def _of_type(config: RemoteEmbedderConfig, key: str, input_type: InputType) -> str | None:
    value: str | None = getattr(config, f"{input_type}_{key}")
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _by_index(reply: Any, count: int) -> list[Any]:
    """OpenAI: items with ``index`` and ``embedding``, in any order."""
    items = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(items, list):
        raise ValueError("answered, but not with a list of embeddings in 'data'")
    found: dict[int, Any] = {}
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in found:
            raise ValueError(f"named a text by {index!r}, or one twice; there were {count}")
        found[index] = item.get("embedding")
    if len(found) != count:
        raise ValueError(f"gave vectors for {len(found)} of {count} texts")
    return [found[index] for index in range(count)]


def _in_order(reply: Any, count: int) -> list[Any]:
    """TEI: the list itself."""
    if not isinstance(reply, list):
        raise ValueError("answered, but not with a list of vectors")
    if len(reply) != count:
        raise ValueError(f"gave {len(reply)} vectors for {count} texts")
    return reply


def _floats_in_order(reply: Any, count: int) -> list[Any]:
    """Cohere: the list under ``embeddings.float``."""
    found = reply.get("embeddings") if isinstance(reply, dict) else None
    floats = found.get("float") if isinstance(found, dict) else None
    if not isinstance(floats, list):
        raise ValueError("answered, but not with a list of vectors in 'embeddings.float'")
    return _in_order(floats, count)


APIS: dict[EmbedApiName, EmbedApi] = {
    # platform.openai.com/docs/api-reference/embeddings: at most 2048 texts and 300,000 tokens in a request
    "openai": EmbedApi("/embeddings", "/models", 256, _openai_body, _by_index),
    # docs.nvidia.com/nim/nemo-retriever/text-embedding, "API Reference"
    "nim": EmbedApi("/embeddings", "/models", 64, _nim_body, _by_index),
    # huggingface/text-embeddings-inference, docs/openapi.json; 32 is its default of max_client_batch_size
    "tei": EmbedApi("/embed", "/info", 32, _tei_body, _in_order),
    # docs.cohere.com/reference/embed: at most 96 texts in a request
    "cohere": EmbedApi("/embed", None, 96, _cohere_body, _floats_in_order),
}


def request_url(config: RemoteEmbedderConfig) -> str:
    """Where texts are sent, without the task."""
    return config.base_url.rstrip("/") + (config.path or APIS[config.api].path)


def request_query(config: RemoteEmbedderConfig, input_type: InputType) -> Mapping[str, str]:
    """What follows the ``?`` of the URL."""
    task = _of_type(config, "task", input_type)
    return {"task": task} if config.api == "tei" and task is not None else {}


def request_body(config: RemoteEmbedderConfig, texts: Sequence[str], input_type: InputType) -> dict[str, Any]:
    """The body of the request that embeds ``texts``, which have their prompts already."""
    return {**config.extra_body, **APIS[config.api].body(config, texts, input_type)}


class VectorError(ValueError):
    """A vector that cannot be used, in words that follow "the embedder ... "; ``position`` is that of its text."""

    def __init__(self, position: int, words: str) -> None:
        super().__init__(words)
        self.position = position


def read_vectors(config: RemoteEmbedderConfig, reply: Any, count: int, dim: int | None) -> Float64Array:
    """The vectors of ``count`` texts, ``(count, dim) float64`` of length 1, in the order of the texts.

    ``dim`` is how long they must be, if that is known. Raises ValueError, in words that follow "the embedder ... ", for
    a reply of another shape and one that does not name every text once; VectorError for a vector that holds anything
    but numbers, is of another length than the others, not finite or zero.
    """
    rows = [_numbers(item, position) for position, item in enumerate(APIS[config.api].vectors(reply, count))]
    for position, row in enumerate(rows):
        expected = dim or len(rows[0])
        if len(row) != expected or not expected:
            raise VectorError(position, f"gave a vector of {len(row)} dimensions; expected {expected or 'some'}")
    vectors = np.stack(rows)
    # Of a number that float32 can't hold the store would keep infinity.
    largest = np.abs(vectors).max(axis=1, initial=0)
    bad = np.flatnonzero(~(largest <= np.finfo(np.float32).max) | (largest == 0))
    if len(bad):
        position = int(bad[0])
        kind = "zero" if largest[position] == 0 else "not finite (NaN, infinity or beyond float32)"
        raise VectorError(position, f"gave a vector that is {kind}")
    scaled = vectors / largest[:, None]  # so that no square overflows or vanishes
    unit: Float64Array = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def _numbers(item: Any, position: int) -> Float64Array:
    """A vector as numbers or as the little-endian float32 bytes of them in base64: ``(dim,) float64``."""
    if isinstance(item, str):
        try:
            return np.frombuffer(base64.b64decode(item, validate=True), dtype="<f4").astype(np.float64)
        except (binascii.Error, ValueError):
            raise VectorError(position, "gave text that is no base64 of floats for a vector") from None
    if not isinstance(item, list):
        raise VectorError(position, f"gave {type(item).__name__} for a vector; expected a list of numbers")
    try:
        row = np.asarray(item)
    except (ValueError, OverflowError):
        row = np.empty(0, dtype=object)
    if row.dtype.kind not in "fiu" or row.ndim != 1:
        others = (value for value in item if isinstance(value, bool) or not isinstance(value, (int, float)))
        raise VectorError(position, f"gave {next(others, item[:1])!r:.40} in a vector; expected numbers alone")
    return row.astype(np.float64)


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of its model; None for what it does not say.

    ``max_tokens`` counts special tokens, too.
    """

    model: str | None = None
    revision: str | None = None
    max_tokens: int | None = None
    max_batch_size: int | None = None


def read_facts(config: RemoteEmbedderConfig, reply: Any) -> ServerFacts:
    """The facts in the reply of the API's ``facts`` path, whatever its shape."""
    if config.api == "tei":
        info = reply if isinstance(reply, dict) else {}
        return ServerFacts(
            _text(info.get("model_id")),
            _text(info.get("model_sha")),
            _count(info.get("max_input_length")),
            _count(info.get("max_client_batch_size")),
        )
    items = reply.get("data") if isinstance(reply, dict) else None
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and item.get("id") == config.model:
            # vLLM tells in `root` what it loaded; where that is a folder, it says nothing. `created` is the time of the
            # start, or of the request, of many servers.
            said = [_text(item.get(key)) for key in ("revision", "root")]
            revision = " ".join(each for each in said if each and not each.startswith("/"))
            return ServerFacts(config.model, revision or None, _count(item.get("max_model_len")))
    return ServerFacts()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
