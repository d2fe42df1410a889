"""The embedder block: mistakes in one that is remote, and what an index may take of the config in effect."""

from __future__ import annotations

from typing import Any

import pytest

from ragstack.config.embedders import LocalEmbedderConfig, RemoteEmbedderConfig, reachable
from ragstack.config.loader import parse_config
from ragstack.config.models import PipelineConfig
from ragstack.errors import ConfigError

REMOTE = "embedder: {type: remote, api: %s, base_url: 'http://h/v1', model: m%s}\n"


def mistakes(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "c.yaml", {})
    return [(p.line, p.key_path, p.message) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (REMOTE % ("openai", ""), (1, "embedder.type"), "its default late_interaction compares token vectors"),
        (
            REMOTE % ("openai", "") + "reranker:\n  type: late_interaction\n",
            (3, "reranker.type"),
            "type remote does not give; set reranker.type: none, remote or cross_encoder",
        ),
        (
            REMOTE % ("tei", "")
            + "reranker:\n  type: cascade\n  stages:\n  - reranker: {type: late_interaction}\n"
            + "  - {rerank_k: 5, reranker: {type: remote, api: tei, base_url: 'http://h'}}\n",
            (5, "reranker.stages[0].reranker.type"),
            "compares token vectors",
        ),
        (REMOTE % ("cohere", ", query_task: x"), (1, "embedder.query_task"), "api: cohere does not know query_task"),
        (REMOTE % ("openai", ", passage_prompt_name: x"), (1, "embedder.passage_prompt_name"), "tei would"),
        (REMOTE % ("tei", ", query_input_type: x"), (1, "embedder.query_input_type"), "does not know"),
        (REMOTE % ("grpc", ""), (1, "embedder.api"), "'openai'"),
        (REMOTE % ("nim", ", api_key: 'a b'"), (1, "embedder.api_key"), "visible ASCII"),
        (REMOTE % ("nim", ", extra_body: {truncate: END}"), (1, "embedder.extra_body"), "'truncate' is set by"),
        (REMOTE.replace("http://h", "http://u:p@h") % ("nim", ""), (1, "embedder.base_url"), "no user, password"),
        (REMOTE.replace("http://h", "http://h:99999") % ("nim", ""), (1, "embedder.base_url"), "Port out of range"),
        (REMOTE.replace("http://h", "http://[::1") % ("nim", ""), (1, "embedder.base_url"), "expected http://host"),
        ("embedder: {type: remote}\n", (1, "embedder"), "the key 'api' is missing"),
    ],
)  # fmt: skip
def test_mistakes(text: str, place: tuple[int, str], words: str) -> None:
    found = mistakes(text)
    assert any((line, key) == place and words in told for line, key, told in found), found
    assert "a b" not in str(found)


def test_other_rerankers_fit_a_remote_embedder() -> None:
    for reranker in (
        "{type: none}",
        "{type: remote, api: tei, base_url: 'http://h'}",
        "{type: cross_encoder, model: m}",
    ):
        parse_config(f"{REMOTE % ('tei', '')}reranker: {reranker}\n".encode(), "c.yaml", {})


def remote(**more: Any) -> RemoteEmbedderConfig:
    settings = {"type": "remote", "api": "openai", "base_url": "http://a/v1", "model": "m", "api_key": "secret"}
    return RemoteEmbedderConfig.model_validate({**settings, **more})


def test_an_index_is_asked_where_the_config_says_its_model_is() -> None:
    kept = PipelineConfig(embedder=remote()).model_dump(mode="json", include={"embedder"})
    assert "secret" not in str(kept)
    indexed = PipelineConfig.model_validate(kept).embedder
    moved = remote(base_url="http://b/v1", max_batch_size=3)
    assert reachable(indexed, moved) == moved
    other = remote(model="n", dimensions=5, base_url="http://a/v2")
    assert reachable(indexed, other) == remote()  # the same host, so the same key
    assert reachable(indexed, remote(model="n", base_url="http://b/v1")) == indexed
    assert reachable(indexed, LocalEmbedderConfig()) == indexed
    assert reachable(LocalEmbedderConfig(), other) == LocalEmbedderConfig()
