"""Pipelines whose models run elsewhere, by the shipped configs: indexed, asked, and their citations verified.

The servers are ragstack's own, on loopback, with a real model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

import ragstack
from ragstack.api.app import create_app
from ragstack.cancellation import Cancellation
from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.config.loader import load_config
from ragstack.config.models import PipelineConfig
from ragstack.embedding.remote import RemoteEmbedder
from ragstack.errors import EmbeddingError, InterruptedRunError
from ragstack.retrieval.engine import QueryRequest
from tests.cross_encoder_kit import write_cross_encoder
from tests.servers.api import running_app
from tests.servers.rerank_replay import Answer, RerankReplay, Seen, running

QUESTION = "How long are raw images kept?"
CONFIGS = ("nim", "tei", "openai-embeddings")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An embedding server with the default model and a reranking server, each on a port of its own."""
    folder = tmp_path_factory.mktemp("servers")
    reranker = {"type": "cross_encoder", "model": str(write_cross_encoder(folder / "words-in-common"))}
    with ExitStack() as stack:
        urls = []
        for name, config in (("embed", {}), ("rerank", {"embedder": {"type": "hashing"}, "reranker": reranker})):
            pipeline = stack.enter_context(ragstack.open({"version": 1, **config}, state_dir=folder / name))
            urls.append(stack.enter_context(running_app(create_app(pipeline))))
        yield {"embed": urls[0], "rerank": urls[1]}


def loaded(name: str, repository: Path, servers: dict[str, str]) -> PipelineConfig:
    path = "" if name == "tei" else "/v1"
    environment = {
        "RAGSTACK_EMBED_BASE_URL": servers["embed"] + path,
        "RAGSTACK_EMBED_MODEL": "all-MiniLM-L6-v2",
        "RAGSTACK_RERANK_BASE_URL": servers["rerank"] + path,
        "RAGSTACK_RERANK_MODEL": "cross_encoder",
    }
    return load_config(repository / "ragstack" / "configs" / f"{name}.yaml", environment).config


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs(name: str, repository: Path, servers: dict[str, str], tmp_path: Path) -> None:
    config = loaded(name, repository, servers)
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        report = pipeline.index(repository / "examples" / "corpus")
        assert report.failed == []
        result = pipeline.query(QUESTION)
        assert "400 days" in result.text
        answer = result.chain.answer
        assert answer is not None
        assert {finding.status for finding in pipeline.verify(result.chain)} == {"verified"}
        assert all(0 <= sentence.support <= 1 for sentence in answer.sentences)
        explanation = pipeline.explain(QUESTION, "raw images")
        assert explanation.to_json()
    with ragstack.open(config, state_dir=tmp_path / "state") as again:
        assert again.index(repository / "examples" / "corpus").unchanged > 0  # the same fingerprint


@pytest.mark.parametrize(
    ("api", "more"),
    [
        ("openai", {"encoding_format": "float"}),
        ("nim", {}),
        (
            "tei",
            {"query_task": "retrieval.query", "passage_task": "retrieval.passage", "passage_prompt_name": "passage"},
        ),
    ],
)
def test_a_server_gives_the_vectors_of_its_model(api: str, more: dict[str, str], servers: dict[str, str]) -> None:
    from ragstack.embedding.encoder import EncoderEmbedder

    url = servers["embed"] + ("" if api == "tei" else "/v1")
    config = RemoteEmbedderConfig.model_validate(
        {"type": "remote", "api": api, "base_url": url, "model": "all-MiniLM-L6-v2", "max_batch_size": 7, **more}
    )
    texts = [f"The pump {index} runs at {'high ' * (index % 5)}pressure. 水泵" for index in range(40)]
    local, remote = EncoderEmbedder(), RemoteEmbedder(config)
    try:
        expected, found = local.embed(texts, "passage").dense, remote.embed(texts, "passage").dense
        assert expected is not None and found is not None
        assert float((expected * found).sum(axis=1).min()) > 0.9999
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        info = remote.info
        assert (info.dim, info.languages) == (384, ("en",))
        with pytest.raises(EmbeddingError, match=r"text 1: about 600 tokens; all-MiniLM-L6-v2 reads at most 338"):
            remote.embed(["short", "word " * 600], "passage")
    finally:
        local.close()
        remote.close()
    hopeful = RemoteEmbedder(config.model_copy(update={"max_tokens": 4096}))
    with pytest.raises(
        EmbeddingError, match=r"text 1: the embedder all-MiniLM-L6-v2 at http.*status 4\d\d: .*at most 510 tokens"
    ):
        hopeful.embed(["short", "word " * 600], "passage")
    hopeful.close()


@pytest.fixture(scope="module")
def replay() -> Iterator[RerankReplay]:
    with running() as opened:
        yield opened


def by_letters(seen: Seen) -> Answer:
    """A model of another kind: how often each letter occurs."""
    rows = [[1.0 + text.lower().count(chr(97 + i)) for i in range(26)] for text in seen.body["input"]]
    return Answer({"data": [{"index": index, "embedding": row} for index, row in enumerate(rows)]})


def _has(seen: Seen, words: str) -> bool:
    return any(words in text for text in seen.body["input"])


def remote_config(url: str, **embedder: object) -> dict[str, object]:
    settings = {"type": "remote", "api": "openai", "base_url": url, "model": "letters", "revision": "1"}
    return {
        "version": 1,
        "embedder": {**settings, "max_tokens": 512, "max_retries": 0, **embedder},
        "reranker": {"type": "none"},
        "retrieval": {"min_relevance": 0.0},
    }


def test_the_key_comes_from_the_config_and_not_from_the_index(
    replay: RerankReplay, repository: Path, tmp_path: Path
) -> None:
    def respond(seen: Seen) -> Answer:
        return by_letters(seen) if seen.headers.get("authorization") == "Bearer sk-of-now" else Answer(b"", 401)

    replay.answering(respond)
    config = remote_config(f"{replay.url}/old", api_key="sk-of-now")
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(repository / "examples" / "corpus")
    assert all(b"sk-of-now" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    moved = remote_config(f"{replay.url}/new", api_key="sk-of-now", max_batch_size=3)
    with ragstack.open(moved, state_dir=tmp_path / "state") as pipeline:
        chain = pipeline.query(QUESTION).chain
        assert chain.passages
        assert replay.seen[-1].path == "/new/embeddings"
        assert not pipeline.engine.config_differs
    other = remote_config(f"{replay.url}/new", api_key="sk-of-now", model="other")
    with ragstack.open(other, state_dir=tmp_path / "state") as pipeline:  # not indexed anew yet
        assert pipeline.query(QUESTION).chain.passages
        assert replay.seen[-1].body["model"] == "letters"


def test_another_revision_of_the_model_is_no_answer(replay: RerankReplay, repository: Path, tmp_path: Path) -> None:
    said = {"id": "letters", "root": "org/letters-1"}
    replay.answering(lambda seen: Answer({"data": [said]}) if seen.method == "GET" else by_letters(seen))
    config = remote_config(replay.url, revision=None)
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(repository / "examples" / "corpus")
        assert pipeline.query(QUESTION).chain.passages
    said["root"] = "org/letters-2"
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        with pytest.raises(EmbeddingError, match="runs another revision of letters"):
            pipeline.query(QUESTION)
        pipeline.index(repository / "examples" / "corpus")
        assert pipeline.query(QUESTION).chain.passages


def test_queries_wait_for_the_server_side_by_side(replay: RerankReplay, repository: Path, tmp_path: Path) -> None:
    replay.answering(by_letters)
    with ragstack.open(remote_config(replay.url), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(repository / "examples" / "corpus")
        pipeline.query(QUESTION)
        both = threading.Barrier(2)

        def respond(seen: Seen) -> Answer:
            both.wait(20)  # breaks, were one query's question asked after the other
            return by_letters(seen)

        replay.answering(respond)
        with ThreadPoolExecutor(2) as pool:
            chains = list(
                pool.map(lambda text: pipeline.query(text).chain, ["Who keeps the log?", "When is it closed?"])
            )
        assert all(chain.passages for chain in chains)


def test_a_query_that_is_given_up_leaves_the_server(replay: RerankReplay, repository: Path, tmp_path: Path) -> None:
    replay.answering(by_letters)
    with ragstack.open(remote_config(replay.url), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(repository / "examples" / "corpus")
        pipeline.query(QUESTION)
        cancellation = Cancellation()

        def respond(seen: Seen) -> Answer:
            cancellation.request()
            return Answer(b"", stall_s=30)

        replay.answering(respond)
        with pytest.raises(InterruptedRunError):
            pipeline.engine.query(QueryRequest("Who keeps the log?", cancellation=cancellation))
        assert replay.seen[0].client_left.wait(10)
        replay.answering(by_letters)
        assert pipeline.query(QUESTION).chain.passages


def test_over_rest_its_faults_are_those_of_a_gateway(replay: RerankReplay, repository: Path, tmp_path: Path) -> None:
    replay.answering(by_letters)
    config = remote_config(replay.url, api_key="sk-of-now")
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(repository / "examples" / "corpus")
        with running_app(create_app(pipeline)) as url:
            asked = {"query": "Who keeps the log?"}
            assert httpx.post(f"{url}/v1/query", json=asked, timeout=60).status_code == 200
            texts = {"input": ["one", "two"]}
            served = httpx.post(f"{url}/v1/embeddings", json=texts, timeout=60).json()["data"]
            assert [len(item["embedding"]) for item in served] == [26, 26]
            assert httpx.post(f"{url}/embed_all", json={"inputs": "one"}, timeout=60).status_code == 424
            replay.answering(lambda seen: Answer({"error": f"no such key: {seen.headers['authorization']}"}, 401))
            failed = httpx.post(f"{url}/v1/query", json={"query": "And who reads it?"}, timeout=60)
            assert failed.status_code == 502
            assert "letters at " in failed.text and "status 401" in failed.text
            assert "sk-of-now" not in failed.text


def test_a_server_that_fails_loses_nothing(replay: RerankReplay, repository: Path, tmp_path: Path) -> None:
    replay.answering(lambda seen: Answer({"error": "gone"}, 401))
    corpus = repository / "examples" / "corpus"
    config = remote_config(replay.url, max_batch_size=2)
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        with pytest.raises(EmbeddingError, match=r"letters at .* refused the key \(status 401"):
            pipeline.index(corpus)
        replay.answering(
            lambda seen: Answer({"error": "token limit"}, 413) if _has(seen, "400 days") else by_letters(seen)
        )
        with pytest.raises(EmbeddingError, match=r"corpus/\S+: chunk \S+ \(bytes .*status 413: token limit"):
            pipeline.index(corpus)
        replay.answering(by_letters)
        report = pipeline.index(corpus)
        assert report.failed == []
        replay.answering(lambda seen: Answer({"data": []}))
        with pytest.raises(EmbeddingError, match="gave vectors for 0 of"):
            pipeline.query("another question")
