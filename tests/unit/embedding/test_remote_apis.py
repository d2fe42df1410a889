"""Embedding APIs on the wire: what is sent in each dialect, and which replies are vectors."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.embedding.remote_apis import (
    APIS,
    ServerFacts,
    VectorError,
    read_facts,
    read_vectors,
    request_body,
    request_query,
    request_url,
)


def config(api: str = "openai", **more: Any) -> RemoteEmbedderConfig:
    return RemoteEmbedderConfig.model_validate(
        {"type": "remote", "api": api, "base_url": "http://h/v1/", "model": "m", **more}
    )


def packed(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


def openai_reply(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}


@pytest.mark.parametrize(
    ("settings", "input_type", "url", "query", "body"),
    [
        (config(), "query", "/embeddings", {}, {"model": "m", "input": ["t"], "encoding_format": "base64"}),
        (
            config(dimensions=8, encoding_format="float", passage_input_type="document", extra_body={"user": "u"}),
            "passage",
            "/embeddings",
            {},
            {
                "model": "m",
                "input": ["t"],
                "encoding_format": "float",
                "dimensions": 8,
                "input_type": "document",
                "user": "u",
            },
        ),
        (
            config(query_task="retrieval.query", passage_task="retrieval.passage"),
            "query",
            "/embeddings",
            {},
            {"model": "m", "input": ["t"], "encoding_format": "base64", "task": "retrieval.query"},
        ),
        (
            config("nim", dimensions=384),
            "passage",
            "/embeddings",
            {},
            {
                "model": "m",
                "input": ["t"],
                "encoding_format": "base64",
                "dimensions": 384,
                "input_type": "passage",
                "truncate": "NONE",
            },
        ),
        (config("tei"), "query", "/embed", {}, {"inputs": ["t"], "normalize": True, "truncate": False}),
        (
            config("tei", query_prompt_name="query", query_task="retrieval.query", dimensions=4),
            "query",
            "/embed",
            {"task": "retrieval.query"},
            {"inputs": ["t"], "normalize": True, "truncate": False, "prompt_name": "query", "dimensions": 4},
        ),
        (
            config("cohere", dimensions=256, path="/embedding"),
            "query",
            "/embedding",
            {},
            {
                "model": "m",
                "texts": ["t"],
                "input_type": "search_query",
                "embedding_types": ["float"],
                "truncate": "NONE",
                "output_dimension": 256,
            },
        ),
        (
            config("cohere", passage_input_type="clustering"),
            "passage",
            "/embed",
            {},
            {
                "model": "m",
                "texts": ["t"],
                "input_type": "clustering",
                "embedding_types": ["float"],
                "truncate": "NONE",
            },
        ),
    ],
)
def test_requests(
    settings: RemoteEmbedderConfig, input_type: Any, url: str, query: dict[str, str], body: dict[str, Any]
) -> None:
    assert request_url(settings) == f"http://h/v1{url}"
    assert request_query(settings, input_type) == query
    assert request_body(settings, ["t"], input_type) == body


@pytest.mark.parametrize(
    ("api", "reply"),
    [
        ("openai", {"data": [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": packed(3, 4)}]}),
        ("nim", openai_reply([3, 4], packed(0, 1e-30))),
        ("tei", [[3, 4], [0, 7.5]]),
        ("cohere", {"embeddings": {"float": [[3e38, 4e38 * 0.8], [0.0, 5e-40]]}, "id": "x"}),
    ],
)
def test_vectors_have_length_1_and_the_order_of_the_texts(api: str, reply: Any) -> None:
    found = read_vectors(config(api), reply, 2, None)
    expected = [[0.6, 0.8], [0, 1]] if api != "cohere" else [[3 / np.hypot(3, 3.2), 3.2 / np.hypot(3, 3.2)], [0, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("api", "reply", "message"),
    [
        ("openai", [], "not with a list of embeddings in 'data'"),
        ("openai", {"data": {}}, "not with a list of embeddings"),
        ("openai", {"data": [{"index": 0, "embedding": [1.0]}]}, "gave vectors for 1 of 2 texts"),
        ("openai", {"data": [{"index": 0, "embedding": [1.0]}] * 2}, "named a text by 0, or one twice; there were 2"),
        ("openai", {"data": [{"index": 2, "embedding": [1.0]}]}, "named a text by 2"),
        ("openai", {"data": [{"index": True, "embedding": [1.0]}]}, "named a text by True"),
        ("openai", {"data": [{"embedding": [1.0]}]}, "named a text by None"),
        ("openai", {"data": [None, None]}, "named a text by None"),
        ("openai", openai_reply([1.0, 0], None), "1: gave NoneType for a vector; expected a list of numbers"),
        ("openai", openai_reply([1.0, 0], [1.0, None]), "1: gave None in a vector"),
        ("openai", openai_reply([1.0, 0], ["1.0", "2"]), "1: gave '1.0' in a vector"),
        ("openai", openai_reply([1.0, 0], [True, False]), "1: gave True in a vector"),
        ("openai", openai_reply([1.0, 0], [[1.0], [2.0]]), "1: gave "),
        ("openai", openai_reply([1.0, 0], [[1.0], 2.0]), "1: gave "),
        ("openai", openai_reply([10**400, 0], [1, 2]), "0: gave "),
        ("openai", openai_reply([1.0, 0], [1.0]), "1: gave a vector of 1 dimensions; expected 2"),
        ("openai", openai_reply([], []), "0: gave a vector of 0 dimensions; expected some"),
        ("openai", openai_reply("", ""), "0: gave a vector of 0 dimensions; expected some"),
        ("openai", openai_reply([1.0, 0], [float("nan"), 0]), "1: gave a vector that is not finite"),
        ("openai", openai_reply([float("inf"), 0], [1, 0]), "0: gave a vector that is not finite"),
        ("openai", openai_reply([1e39, 0], [1, 0]), "0: gave a vector that is not finite"),
        ("openai", openai_reply([1.0, 0], [0, -0.0]), "1: gave a vector that is zero"),
        ("openai", openai_reply(packed(1, 0), packed(float("nan"), 0)), "1: gave a vector that is not finite"),
        ("openai", openai_reply(packed(1, 0), "not base64!"), "1: gave text that is no base64 of floats for a vector"),
        ("openai", openai_reply(packed(1, 0), "AAAA"), "1: gave text that is no base64 of floats for a vector"),
        ("tei", {"data": []}, "answered, but not with a list of vectors"),
        ("tei", [[1.0]], "gave 1 vectors for 2 texts"),
        ("tei", [[1.0]] * 3, "gave 3 vectors for 2 texts"),
        ("cohere", {"embeddings": [[1.0], [2.0]]}, "not with a list of vectors in 'embeddings.float'"),
        ("cohere", {"embeddings": {"float": [[1.0]]}}, "gave 1 vectors for 2 texts"),
    ],
)  # fmt: skip
def test_replies_that_are_refused(api: str, reply: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_vectors(config(api), reply, 2, None)
    fault = caught.value
    assert message in (f"{fault.position}: {fault}" if isinstance(fault, VectorError) else str(fault))


def test_a_dimension_that_is_known_must_be_kept() -> None:
    with pytest.raises(ValueError, match="gave a vector of 2 dimensions; expected 3"):
        read_vectors(config(), openai_reply([1.0, 2.0]), 1, 3)


KEYS = st.sampled_from(["index", "embedding", "data", "embeddings", "float", "id", "root", "model_id"])
JSON: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=True) | st.text(max_size=5)
)
for _ in range(3):
    JSON = JSON | st.lists(JSON, max_size=3) | st.dictionaries(KEYS, JSON, max_size=3)


@given(st.sampled_from(sorted(APIS)), JSON, st.integers(1, 3))
def test_any_reply_gives_unit_vectors_or_a_told_fault(api: str, reply: Any, count: int) -> None:
    try:
        found = read_vectors(config(api), reply, count, None)
    except ValueError as error:
        assert str(error).startswith(("answered, but", "named a text", "gave "))
    else:
        assert found.shape[0] == count
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert isinstance(read_facts(config(api), reply), ServerFacts)


def test_what_servers_say_of_their_models() -> None:
    info = {"model_id": "org/m", "model_sha": "abc", "max_input_length": 512, "max_client_batch_size": 32}
    assert read_facts(config("tei"), info) == ServerFacts("org/m", "abc", 512, 32)
    assert read_facts(config("tei"), {"model_id": "", "model_sha": None, "max_input_length": True}) == ServerFacts()
    listed = {"data": [{"id": "other", "root": "x"}, {"id": "m", "root": "org/m", "created": 5, "max_model_len": 8192}]}
    assert read_facts(config("openai"), listed) == ServerFacts("m", "org/m", 8192, None)
    assert read_facts(config("nim"), {"data": [{"id": "m"}]}) == ServerFacts("m", None, None, None)
