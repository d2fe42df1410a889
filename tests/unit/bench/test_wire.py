"""Where APIs are, what they can be asked, and what their servers count."""

from __future__ import annotations

from typing import Any

import pytest

from ragstack.bench.wire import BenchApi, base_url, require_api, told_tokens
from ragstack.errors import InputError


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
