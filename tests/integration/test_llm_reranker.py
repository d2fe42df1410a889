"""A language model that answers yes or no as the reranker of a whole pipeline, of the model server and of LangChain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx
import pytest

import ragstack
from ragstack.api.app import create_app
from ragstack.cli.main import main
from ragstack.config.loader import parse_config
from ragstack.errors import ConfigError, InputError
from ragstack.integrations.langchain import RagstackReranker
from tests.integration.harness import SMALL_CONFIG, write_corpus
from tests.servers.api import running_app
from tests.torch_models_kit import card_scores, qwen3_yes_no

QUERY = "turn the red lever"
TEXTS = ["The lamp goes out.", "Turn the red lever twice. Wait ten seconds.", "Rain."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_yes_no(tmp_path_factory.mktemp("models") / "small-qwen3")


@pytest.fixture(scope="module")
def pipeline(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("indexed")
    write_corpus(folder / "corpus")
    stages: list[dict[str, Any]] = [
        {"reranker": {"type": "late_interaction"}},
        {"reranker": block(model), "rerank_k": 4},
    ]
    config = {
        **SMALL_CONFIG,
        "retrieval": {"min_relevance": 0.0},
        "reranker": {"type": "cascade", "stages": stages},
    }
    with ragstack.open(config, state_dir=folder / "state") as opened:
        opened.index(folder / "corpus")
        yield opened


def block(model: Path, **settings: Any) -> dict[str, Any]:
    return {"type": "llm_yes_no", "model": str(model), "threads": 1, **settings}


def test_a_cascade_ends_in_it(model: Path, pipeline: Any) -> None:
    found = pipeline.query(QUERY)
    assert {finding.status for finding in pipeline.verify(found.chain)} == {"verified"}
    assert found.chain.query.reranker == "cascade(late_interaction, llm_yes_no:small-qwen3)"
    first = found.chain.passages[0].stages[1]
    assert first.rank == 1
    read = [p for p in found.chain.passages if len(p.stages) == 2]
    assert [p.stages[1].score for p in read] == sorted((p.stages[1].score for p in read), reverse=True)


def test_langchain_ranks_with_it(model: Path, pipeline: Any) -> None:
    from langchain_core.documents import Document

    expected = dict(zip(TEXTS, card_scores(model, QUERY, TEXTS), strict=True))
    documents = [Document(page_content=text) for text in TEXTS]
    found = RagstackReranker(pipeline=pipeline, top_n=3).compress_documents(documents, QUERY)
    assert [d.metadata["relevance_score"] for d in found] == pytest.approx(
        sorted(expected.values(), reverse=True), abs=1e-4
    )


def test_texts_of_a_request_are_ranked_by_it(model: Path, pipeline: Any) -> None:
    # The last test of this pipeline: the server closes it.
    expected = dict(enumerate(card_scores(model, QUERY, TEXTS)))
    with running_app(create_app(pipeline)) as url, httpx.Client(base_url=url, timeout=60) as http:
        body = {"model": "llm_yes_no", "query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS]}
        answer = http.post("/v1/ranking", json=body)
        assert answer.status_code == 200, answer.text
        ranked = answer.json()["rankings"]
        assert [item["index"] for item in ranked] == sorted(expected, key=lambda index: -expected[index])
        assert {item["index"]: item["logit"] for item in ranked} == pytest.approx(expected, abs=1e-4)
        scores = http.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
        shares = {index: 1 / (1 + math.exp(-logit)) for index, logit in expected.items()}
        assert {item["index"]: item["score"] for item in scores} == pytest.approx(shares, abs=1e-4)
        raw = http.post("/rerank", json={"query": QUERY, "texts": TEXTS, "raw_scores": True}).json()
        assert {item["index"]: item["score"] for item in raw} == pytest.approx(expected, abs=1e-4)


def test_the_wrong_type_is_refused_before_any_work(model: Path, tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "reranker": {"type": "cross_encoder", "model": str(model)}}
    with (
        pytest.raises(InputError, match=r"is a language model .*Set reranker\.type to llm_yes_no"),
        ragstack.open(config, state_dir=tmp_path / "state") as opened,
    ):
        opened.index(tmp_path)


def test_doctor_looks_at_its_files(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ragstack.yaml").write_text(f"version: 1\nreranker: {{type: llm_yes_no, model: {model}}}\n")
    main(["doctor"])
    assert f"{model}, SHA-256" in capsys.readouterr().out.replace("\n", "")


def test_settings_that_cannot_be_meant() -> None:
    text = b'reranker: {type: llm_yes_no, model: m, instruction: Do it, prompt_template: "{query}"}'
    with pytest.raises(ConfigError, match="a prompt holds"):
        parse_config(text, "f.yaml", {})
    text = b'reranker: {type: llm_yes_no, model: m, instruction: Do it, prompt_template: "{query} {passage}"}'
    with pytest.raises(ConfigError, match=r"prompt_template has no \{instruction\}, so it would not be read"):
        parse_config(text, "f.yaml", {})
