"""Bodies and replies of the embedding APIs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from ragstack.bench.wire import APIS, BenchApi, EmbedRequestBody, base_url, check_embeddings, require_api, told_tokens
from ragstack.errors import InputError


def body(api: BenchApi, **given: Any) -> dict[str, Any]:
    values = {"model": "m", "texts": ["a", "b"], "input_type": "query", "encoding_format": "float", "dimensions": None}
    return APIS[api].body(EmbedRequestBody(**{**values, **given}))


def test_what_each_api_is_sent() -> None:
    assert body("openai") == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
    assert body("openai", dimensions=8, encoding_format="base64") == {
        "model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8,
    }  # fmt: skip
    nim = {"model": "m", "input": ["a", "b"], "encoding_format": "float", "input_type": "query", "truncate": "NONE"}
    assert body("nim") == nim
    assert body("ragstack", model=None) == {key: value for key, value in nim.items() if key != "model"}
    assert body("tei", model=None) == {"inputs": ["a", "b"], "truncate": False}
    assert body("cohere", input_type="passage") == {
        "model": "m", "texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"],
        "truncate": "NONE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("api", "url", "expected"),
    [
        ("openai", "http://host:8000", "http://host:8000/v1"),
        ("nim", "http://host:8000/", "http://host:8000/v1"),
        ("nim", "https://host/v1/", "https://host/v1"),
        ("openai", "https://host/proxy/openai", "https://host/proxy/openai"),
        ("ragstack", "http://host:8000", "http://host:8000/v1"),
        ("tei", "http://host:8080", "http://host:8080"),
        ("cohere", "https://api.cohere.com/v2", "https://api.cohere.com/v2"),
    ],
)
def test_where_an_api_is(api: BenchApi, url: str, expected: str) -> None:
    assert base_url(url, api) == expected


def vector(text: str = "") -> list[float]:
    return [0.5, 1, -0.25]


GOOD: list[tuple[BenchApi, Any]] = [
    ("openai", {"data": [{"index": 1, "embedding": vector()}, {"index": 0, "embedding": vector()}]}),
    ("nim", {"data": [{"embedding": vector()}, {"embedding": vector()}]}),
    ("tei", [vector(), vector()]),
    ("cohere", {"embeddings": {"float": [vector(), vector()]}}),
    ("cohere", {"embeddings": [vector(), vector()]}),
]


@pytest.mark.parametrize(("api", "reply"), GOOD)
def test_replies_that_are_good(api: BenchApi, reply: Any) -> None:
    assert check_embeddings(api, reply, 2) == 3


@pytest.mark.parametrize("dim", [1, 2, 3, 384, 1024])
def test_base64_tells_its_dimensions(dim: int) -> None:
    text = base64.b64encode(np.zeros(dim, "<f4").tobytes()).decode()
    assert check_embeddings("openai", {"data": [{"index": 0, "embedding": text}]}, 1) == dim


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("openai", {"data": [{"index": 0, "embedding": vector()}]}),
        ("openai", {"data": [{"index": 0, "embedding": vector()}] * 2}),
        ("openai", {"data": [{"index": 0, "embedding": vector()}, {"index": 2, "embedding": vector()}]}),
        ("openai", {"data": [{"index": 0, "embedding": vector()}, {"index": 1, "embedding": [1.0]}]}),
        ("openai", {"data": [{"index": 0, "embedding": [None] * 3}, {"index": 1, "embedding": vector()}]}),
        ("openai", {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]}),
        ("openai", {"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}),
        ("openai", {"data": ["x", "y"]}),
        ("openai", {"error": "no"}),
        ("openai", []),
        ("tei", [vector()]),
        ("tei", [vector()] * 3),
        ("tei", {"embeddings": []}),
        ("cohere", {"embeddings": {"float": [vector()]}}),
        ("cohere", {"embeddings": {}}),
        ("cohere", None),
    ],
)
def test_replies_that_are_not(api: BenchApi, reply: Any) -> None:
    with pytest.raises(ValueError):
        check_embeddings(api, reply, 2)


@pytest.mark.parametrize(
    ("reply", "headers", "expected"),
    [
        ({"usage": {"prompt_tokens": 7, "total_tokens": 8}}, {}, 8),
        ({"usage": {"prompt_tokens": 7}}, {}, 7),
        ({"meta": {"billed_units": {"input_tokens": 5}}}, {}, 5),
        ({"meta": {"tokens": {"input_tokens": 6.0}}}, {}, 6),
        ([], {"x-compute-tokens": "12"}, 12),
        ([], {"x-compute-tokens": "many"}, None),
        ({"usage": {"total_tokens": 0}}, {}, None),  # a server that does not count
        ({"usage": None, "meta": []}, {}, None),
        ({"usage": {"total_tokens": True}}, {}, None),
    ],
)
def test_the_tokens_that_a_server_tells(reply: Any, headers: dict[str, str], expected: int | None) -> None:
    assert told_tokens(reply, headers) == expected


def test_apis_that_cannot_be_asked_so() -> None:
    with pytest.raises(InputError, match="--api openai has no reranking") as raised:
        require_api("openai", ("nim", "tei"), "reranking", "m")
    assert "nim, tei" in raised.value.hint
    with pytest.raises(InputError, match="needs the name of the model"):
        require_api("nim", ("nim",), "reranking", None)
    require_api("tei", ("tei",), "embeddings", None)
