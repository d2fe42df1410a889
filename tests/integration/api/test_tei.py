"""The routes of text-embeddings-inference, with Hugging Face's own client and as typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

import ragstack
from ragstack.api.app import create_app
from tests.integration.harness import SMALL_CONFIG

LONG = "word " * 600


@pytest.fixture(scope="module")
def http(model_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=model_url, timeout=30) as client:
        yield client


@pytest.fixture
def wordless(tmp_path: Path) -> Iterator[TestClient]:
    """A server whose model has no vocabulary."""
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        yield client


def vectors(http: httpx.Client, path: str, **body: object) -> np.ndarray:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json())


def test_the_calls_of_the_issue_work_as_typed(http: httpx.Client) -> None:
    found = vectors(http, "/embed", inputs=["hello world", "a pump"])
    assert found.shape == (2, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert vectors(http, "/embed", inputs="hello world") == pytest.approx(found[:1], abs=1e-3)
    for path in ("/embed?task=retrieval.query", "/embed?task=retrieval.passage", "/"):
        assert vectors(http, path, inputs="hello world") == pytest.approx(found[:1], abs=1e-3)
    for prompt_name in ("query", "passage", "document"):
        assert vectors(http, "/embed", inputs="hello world", prompt_name=prompt_name) == pytest.approx(
            found[:1], abs=1e-3
        )


@pytest.mark.parametrize("path", ["", "/embed"])
def test_hugging_faces_client(model_url: str, http: httpx.Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it would refuse this machine, too
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    client = InferenceClient(model_url + path)
    assert client.feature_extraction("hello world") == pytest.approx(
        vectors(http, "/embed", inputs="hello world"), abs=1e-3
    )
    cut = client.feature_extraction(LONG, truncate=True, truncation_direction="left", normalize=True)
    assert cut.shape == (1, 384)
    assert client.feature_extraction("hello world", dimensions=64).shape == (1, 64)
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction(LONG)
    assert refused.value.response.status_code == 413


def test_headers_tell_what_was_done(http: httpx.Client) -> None:
    headers = http.post("/embed", json={"inputs": ["hello world", "a"]}).headers
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("12", "3")
    for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert int(headers[name]) >= 0


@pytest.mark.parametrize(
    ("path", "request_body", "status", "error_type"),
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ""}, 400, "Empty"),
        ("/embed", {"inputs": ["a", ""]}, 400, "Empty"),
        ("/embed", {"inputs": LONG}, 413, "Validation"),
        ("/embed", {"inputs": ["a"] * 2049}, 413, "Validation"),
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": 5}, 422, "Validation"),
        ("/embed", {"inputs": [[99999]]}, 422, "Tokenizer"),
        ("/embed", {"inputs": "a", "prompt_name": "poem"}, 422, "Validation"),
        ("/embed?task=poem", {"inputs": "a"}, 422, "Validation"),
        ("/embed?task=retrieval.query", {"inputs": "a", "prompt_name": "passage"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 385}, 422, "Validation"),
        ("/embed", {"inputs": "a", "normalize": False}, 424, "Backend"),
        ("/embed_sparse", {"inputs": "a"}, 424, "Backend"),
        ("/predict", {"inputs": "a"}, 424, "Backend"),
        ("/tokenize", {"inputs": ""}, 400, "Empty"),
        ("/decode", {"ids": []}, 400, "Empty"),
        ("/decode", {"ids": [99999]}, 422, "Tokenizer"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty"),
    ],
)
def test_refusals_are_teis(
    http: httpx.Client, path: str, request_body: dict[str, object], status: int, error_type: str
) -> None:
    answer = http.post(path, json=request_body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type), answer.text
    assert set(answer.json()) == {"error", "error_type"}


def test_a_lone_surrogate_is_a_tokenisation_error(http: httpx.Client) -> None:
    answer = http.post("/embed", content=b'{"inputs": "a\\ud800"}', headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_shortened_vectors_have_length_1(http: httpx.Client) -> None:
    whole, short = vectors(http, "/embed", inputs="a pump"), vectors(http, "/embed", inputs="a pump", dimensions=100)
    assert short[0] == pytest.approx(whole[0, :100] / np.linalg.norm(whole[0, :100]), abs=1e-3)


def test_token_vectors(http: httpx.Client) -> None:
    found = http.post("/embed_all", json={"inputs": ["hello world", "a"]}).json()
    assert [len(text) for text in found] == [2, 1]
    assert np.linalg.norm(found[0], axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_tokens_and_back(http: httpx.Client) -> None:
    text = "Grüße, 東京 pumps"
    tokens = http.post("/tokenize", json={"inputs": text}).json()[0]
    assert (tokens[0]["text"], tokens[0]["special"], tokens[0]["start"]) == ("[CLS]", True, None)
    data = text.encode()
    pieces = [data[token["start"] : token["stop"]].decode() for token in tokens if not token["special"]]
    assert "".join(pieces) == text.replace(" ", "")
    ids = [token["id"] for token in tokens]
    assert http.post("/decode", json={"ids": ids}).json() == ["gruße, 東 京 pumps"]
    plain = http.post("/tokenize", json={"inputs": [text], "add_special_tokens": False}).json()[0]
    assert plain == tokens[1:-1]
    as_ids, as_text = vectors(http, "/embed", inputs=[ids]), vectors(http, "/embed", inputs=text)
    assert as_ids == pytest.approx(as_text, abs=1e-3)


def test_similarity(http: httpx.Client) -> None:
    inputs = {"source_sentence": "a cat", "sentences": ["a kitten", "income tax"]}
    near, far = http.post("/similarity", json={"inputs": inputs}).json()
    assert 1 > near > far > -1


def test_info_and_health(http: httpx.Client) -> None:
    info = http.get("/info").json()
    assert info["model_id"] == "all-MiniLM-L6-v2"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"], info["auto_truncate"]) == (512, 2048, False)
    health = http.get("/health")
    assert (health.status_code, health.content) == (200, b"")


def test_a_model_without_a_vocabulary_has_no_token_ids(wordless: TestClient) -> None:
    for path, body in (("/tokenize", {"inputs": "a"}), ("/decode", {"ids": [1]}), ("/embed", {"inputs": [1]})):
        answer = wordless.post(path, json=body)
        assert (answer.status_code, answer.json()["error_type"]) == (422, "Tokenizer"), path


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    config = {"embedder": {"type": "local", "model": str(tmp_path / "nowhere")}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")
        answer = client.post("/embed", json={"inputs": "a"})
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 500
