"""/v1/embeddings: as typed with curl, with OpenAI's client and with NVIDIA's."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.types import Float32Array

M = "all-MiniLM-L6-v2"
TEXTS = ["The pump of line seven runs at 40 bar.", "The log is in room 12.", "Grüße aus 東京"]
LONG = "word " * 600


@pytest.fixture(scope="module")
def direct() -> Iterator[EncoderEmbedder]:
    embedder = EncoderEmbedder()
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def http(model_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=model_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def client(model_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{model_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def vectors_of(direct: EncoderEmbedder, texts: list[str]) -> Float32Array:
    dense = direct.embed(texts, "passage").dense
    assert dense is not None
    return dense


def assert_same(found: object, expected: Float32Array) -> None:
    """The same vectors but for the rounding of another batch (cosine .99999)."""
    vectors = np.asarray(found, dtype=np.float32)
    assert vectors.shape == expected.shape
    assert ((vectors * expected).sum(axis=1) > 0.99999).all()


def test_the_calls_of_the_issue_work_as_typed(http: httpx.Client, direct: EncoderEmbedder) -> None:
    answer = http.post("/v1/embeddings", json={"input": "hello world", "model": M})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", M)
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0)]
    assert_same([body["data"][0]["embedding"]], vectors_of(direct, ["hello world"]))
    for truncate in ("NONE", "START", "END"):
        request = {"input": TEXTS, "model": M, "input_type": "passage", "truncate": truncate}
        body = http.post("/v1/embeddings", json=request).json()
        assert [item["index"] for item in body["data"]] == [0, 1, 2]
        assert_same([item["embedding"] for item in body["data"]], vectors_of(direct, TEXTS))
        assert body["usage"]["prompt_tokens"] == sum(direct.tokenizer.count(TEXTS))


def test_openais_client_in_base64_and_floats(client: openai.OpenAI, direct: EncoderEmbedder) -> None:
    expected = vectors_of(direct, TEXTS)
    by_default = client.embeddings.create(input=TEXTS, model=M)  # the client asks for base64 and decodes it
    assert_same([item.embedding for item in by_default.data], expected)
    floats = client.embeddings.create(input=TEXTS, model=M, encoding_format="float", user="me")
    assert_same([item.embedding for item in floats.data], expected)
    raw = client.embeddings.with_raw_response.create(input=TEXTS[0], model=M, encoding_format="base64")
    encoded = raw.http_response.json()["data"][0]["embedding"]
    assert_same([np.frombuffer(base64.b64decode(encoded), "<f4")], expected[:1])
    assert client.embeddings.create(input=TEXTS, model=M, dimensions=384).usage.total_tokens > 20


def test_base64_and_floats_are_the_same_numbers(http: httpx.Client) -> None:
    request = {"input": TEXTS, "model": M}
    floats = http.post("/v1/embeddings", json=request).json()["data"]
    coded = http.post("/v1/embeddings", json={**request, "encoding_format": "base64"}).json()["data"]
    for one, other in zip(floats, coded, strict=True):
        decoded = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert np.array(one["embedding"], dtype=np.float64).astype("<f4").tobytes() == decoded.tobytes()


def test_token_ids_stand_for_their_text(client: openai.OpenAI, direct: EncoderEmbedder) -> None:
    expected = vectors_of(direct, ["hello world"])
    for ids in ([7592, 2088], [[7592, 2088]], [[101, 7592, 2088, 102]]):
        assert_same([client.embeddings.create(input=ids, model=M).data[0].embedding], expected)
    with pytest.raises(openai.BadRequestError, match="vocabulary") as refused:
        client.embeddings.create(input=[[99999]], model=M)
    assert refused.value.param == "input[0]"


def test_further_names_and_nims_suffixes(client: openai.OpenAI) -> None:
    for model in ("text-embedding-3-small", f"{M}-query", f"{M}-passage"):
        assert client.embeddings.create(input="a", model=model).model == model


def test_nvidias_client_by_base_url_alone(model_url: str, direct: EncoderEmbedder) -> None:
    embedder = NVIDIAEmbeddings(base_url=f"{model_url}/v1", model=M)
    assert_same(embedder.embed_documents(TEXTS), vectors_of(direct, TEXTS))
    assert_same([embedder.embed_query("hello world")], vectors_of(direct, ["hello world"]))
    with pytest.raises(Exception, match="at most 510 tokens"):
        embedder.embed_query(LONG)
    cutting = NVIDIAEmbeddings(base_url=f"{model_url}/v1", model=M, truncate="END")
    assert_same([cutting.embed_query(LONG)], vectors_of(direct, ["word " * 510]))


def test_what_is_too_long_is_cut_at_the_end_asked_for(http: httpx.Client, direct: EncoderEmbedder) -> None:
    text = "start " + LONG + "end"
    for truncate, expected in (("END", "start" + " word" * 509), ("START", "word " * 509 + "end")):
        answer = http.post("/v1/embeddings", json={"input": text, "model": M, "truncate": truncate})
        assert_same([answer.json()["data"][0]["embedding"]], vectors_of(direct, [expected]))
        assert answer.json()["usage"]["prompt_tokens"] == 510


@pytest.mark.parametrize(
    ("request_body", "status", "param", "code", "message"),
    [
        ({"input": "", "model": M}, 400, "input", None, "cannot be empty"),
        ({"input": [], "model": M}, 400, "input", None, "cannot be empty"),
        ({"input": ["a", ""], "model": M}, 400, "input", None, r"`input\[1\]` cannot be empty"),
        ({"model": M}, 400, "input", None, "required"),
        ({"input": 5, "model": M}, 400, "input", None, "valid"),
        ({"input": ["a", 5], "model": M}, 400, "input", None, "valid"),
        ({"input": {"text": "a"}, "model": M}, 400, "input", None, "valid"),
        ({"input": "a", "model": "gpt-9"}, 404, "model", "model_not_found", "`gpt-9` does not exist"),
        ({"input": "a", "model": M, "input_type": "sentence"}, 400, "input_type", None, "query"),
        ({"input": "a", "model": M, "truncate": "MIDDLE"}, 400, "truncate", None, "NONE"),
        ({"input": "a", "model": M, "encoding_format": "int8"}, 400, "encoding_format", None, "base64"),
        ({"input": "a", "model": M, "embedding_type": "binary"}, 400, "embedding_type", None, "float"),
        ({"input": "a", "model": M, "dimensions": 64}, 400, "dimensions", None, "384"),
        ({"input": LONG, "model": M}, 400, "input", "context_length_exceeded", "at most 510 tokens. Given: 600"),
        ({"input": ["a"] * 2049, "model": M}, 400, "input", None, "batch size 2049 > maximum allowed batch size 2048"),
    ],
)
def test_refusals_are_openais(
    http: httpx.Client, request_body: dict[str, object], status: int, param: str, code: str | None, message: str
) -> None:
    answer = http.post("/v1/embeddings", json=request_body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert re.search(message, error["message"]), error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"input": "\xff"}', b"[1]", b"[" * 100_000, b'{"input": "a\\ud800"}'])
def test_a_broken_body_is_a_bad_request(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_errors_reach_openais_client_as_its_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(input="a", model="gpt-9")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_long:
        client.embeddings.create(input=LONG, model=M)
    assert (too_long.value.code, too_long.value.param) == ("context_length_exceeded", "input")
