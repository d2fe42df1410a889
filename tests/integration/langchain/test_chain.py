"""The documented chain: retriever, prompt and a chat model, with citations kept."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableLambda

import ragstack
from ragstack.integrations.langchain import RagstackReranker, RagstackRetriever

ANSWER = "It runs at 40 bar [1]. It was painted green [9]. The log is in room 12 [2][1]."


@pytest.fixture(scope="module")
def example(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("langchain_chain", repository / "examples" / "langchain_chain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model() -> GenericFakeChatModel:
    """Says the same to every question, a word at a time."""
    return GenericFakeChatModel(messages=iter([AIMessage(ANSWER)] * 9))


def test_an_answers_markers_lead_to_bytes(example: ModuleType, pipeline: ragstack.Pipeline, corpus: Path) -> None:
    chain = example.build_chain(RagstackRetriever(pipeline=pipeline, k=3), model())
    for result in (
        chain.invoke({"question": "How many bar does the pump run at?"}),
        asyncio.run(chain.ainvoke({"question": "How many bar does the pump run at?"})),
    ):
        assert result["answer"] == ANSWER
        assert [citation["marker"] for citation in result["citations"]] == [1, 2], "the marker of no passage is dropped"
        for citation in result["citations"]:
            assert citation["citation_status"] == "verified"
            raw = (corpus.parent / citation["source_id"]).read_bytes()
            cut = b"".join(raw[span["byte_start"] : span["byte_end"]] for span in citation["source_ranges"])
            assert cut.decode() == citation["text"]


def test_it_streams(example: ModuleType, pipeline: ragstack.Pipeline) -> None:
    chain = example.build_chain(RagstackRetriever(pipeline=pipeline, k=3), model())
    parts = list(chain.stream({"question": "How many bar does the pump run at?"}))
    assert "".join(part.get("answer", "") for part in parts) == ANSWER
    assert sum("answer" in part for part in parts) > 5, "word by word"
    keys = [key for part in parts for key in part]
    assert keys.index("documents") < keys.index("answer") < keys.index("citations")


def test_the_model_is_given_numbered_passages(example: ModuleType, pipeline: ragstack.Pipeline) -> None:
    seen: list[list[BaseMessage]] = []

    def answer(prompt: Any) -> AIMessage:
        seen.append(prompt.to_messages())
        return AIMessage("Yes [1].")

    example.build_chain(RagstackRetriever(pipeline=pipeline, k=3), RunnableLambda(answer)).invoke({"question": "pump?"})
    [system, human] = seen[0]
    assert re.findall(r"^\[(\d)\] corpus/", str(system.content), re.MULTILINE) == ["1", "2", "3"]
    assert human.content == "pump?"


def test_a_reranker_stands_between_retriever_and_prompt(example: ModuleType, pipeline: ragstack.Pipeline) -> None:
    retriever, reranker = RagstackRetriever(pipeline=pipeline), RagstackReranker(pipeline=pipeline, top_n=2)

    def narrowed(question: str) -> list[Any]:
        return list(reranker.compress_documents(retriever.invoke(question), question))

    result = example.build_chain(RunnableLambda(narrowed), model()).invoke({"question": "Where is the log kept?"})
    assert len(result["documents"]) == 2
    assert result["documents"][0].metadata["source_id"] == "corpus/log.txt"
