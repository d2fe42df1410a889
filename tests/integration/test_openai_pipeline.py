"""The pipeline of configs/openai.yaml: indexed, asked over HTTP, its citations verified; and without its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ragstack
from ragstack.config.loader import load_config
from ragstack.generation.base import Turn
from ragstack.retrieval.engine import QueryRequest
from ragstack.retrieval.events import Answered, PassagesFound
from tests.servers.llm_replay import Cut, Pause, ReplayServer, Reply, deltas, running, whole

QUESTION = "How long are raw images kept?"


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with running() as replay:
        yield replay


@pytest.fixture(scope="module")
def pipeline(
    server: ReplayServer, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ragstack.Pipeline]:
    """Over the example's corpus; its model is the replaying server."""
    environment = {"RAGSTACK_LLM_BASE_URL": server.base_url, "RAGSTACK_LLM_API_KEY": "sk-very-secret"}
    config = load_config(repository / "ragstack" / "configs" / "openai.yaml", environment).config
    with ragstack.open(config, state_dir=tmp_path_factory.mktemp("index") / "state") as opened:
        opened.index(repository / "examples" / "corpus")
        yield opened


def test_the_answer_of_a_model_is_a_chain_that_holds(server: ReplayServer, pipeline: ragstack.Pipeline) -> None:
    server.reply(whole("Raw images are kept for 400 ", "days [{tag}", ":1]. Ask the obser", "vatory [7]. [{tag}:99]"))
    result = pipeline.query(QUESTION)
    answer = result.chain.answer
    assert answer is not None
    assert (answer.generator, answer.error) == ("openai:default", None)
    assert answer.text == "Raw images are kept for 400 days. [1] Ask the observatory (7)."
    assert [citation.marker for citation in answer.citations] == [1]
    assert "400 days" in answer.citations[0].place.text
    assert answer.sentences[0].support > 0.7
    assert answer.sentences[1].support == 0.0
    assert (answer.dropped_markers, answer.prompt_tokens, answer.completion_tokens) == (1, 120, 34)
    assert {finding.status for finding in pipeline.verify(result.chain)} == {"verified"}
    prompt = server.seen[0].body["messages"][1]["content"]
    assert prompt.endswith(f"Question: {QUESTION}")
    assert "very-secret" not in str(result.to_json())


def test_lists_and_code_keep_their_lines_in_the_chain(server: ReplayServer, pipeline: ragstack.Pipeline) -> None:
    written = "Keep:\n\n- raw images [{tag}:1]\n- 水泵\n\n```sh\nls a[1]\n```\n[{tag}:2]\n\nDone."
    server.reply(whole(written))
    chain = pipeline.query(QUESTION).chain
    assert chain.answer is not None
    assert chain.answer.text == "Keep:\n\n- raw images [1]\n- 水泵\n\n```sh\nls a[1]\n```\n [2]\n\nDone."
    data = chain.answer.text.encode()
    assert [data[s.byte_start : s.byte_end].decode() for s in chain.answer.sentences] == [
        s.text for s in chain.answer.sentences
    ]
    assert {finding.status for finding in pipeline.verify(chain)} == {"verified"}


@pytest.mark.parametrize(
    "reply", [Reply([Cut()]), Reply([*deltas("Raw images are kept [{tag}:1]. The dome st"), Cut()])]
)
def test_without_its_model_the_passages_come_back_with_the_error(
    reply: Reply, server: ReplayServer, pipeline: ragstack.Pipeline
) -> None:
    server.reply(reply)
    result = pipeline.query(QUESTION)
    answer = result.chain.answer
    assert answer is not None and answer.error is not None
    assert "connection broke" in answer.error.message
    assert "very-secret" not in answer.error.message + answer.error.hint
    assert len(result.chain.passages) > 0
    assert {finding.status for finding in pipeline.verify(result.chain)} == {"verified"}


def test_passages_come_before_the_answer_and_leaving_closes_the_connection(
    server: ReplayServer, pipeline: ragstack.Pipeline
) -> None:
    server.reply(Reply([*deltas("Raw images are kept [{tag}:1]. The dome stays open"), Pause(30)]))
    events = pipeline.stream(QUESTION)
    assert isinstance(next(events), PassagesFound)
    assert server.seen == []
    assert not isinstance(next(events), Answered)
    events.close()
    assert server.seen[0].client_left.wait(5)


def test_a_question_in_a_conversation_is_worded_anew_before_the_search(
    server: ReplayServer, pipeline: ragstack.Pipeline
) -> None:
    server.reply(whole("How long are raw images kept?"), whole("[{tag}:none]"))
    history = (Turn("user", "What about raw images?"), Turn("assistant", "They are on disk. [1]"))
    chain = pipeline.engine.query(QueryRequest("And how long?", history=history))
    assert "User: What about raw images?" in server.seen[0].body["messages"][0]["content"]
    assert server.seen[1].body["messages"][1]["content"].endswith("Question: How long are raw images kept?")
    assert chain.answer is not None
    assert (chain.answer.text, chain.answer.error) == ("", None)
    assert len(chain.passages) > 0
