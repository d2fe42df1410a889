"""The example corpus with the real model: the answers, their citations, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragstack.citations.verify import verify_chain
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.errors import InputError
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest
from ragstack.retrieval.evidence import open_evidence

OFF_TOPIC = [
    "What is the capital of Mongolia?",
    "Which enzyme does aspirin inhibit in platelets?",
    "How many players are in a volleyball team?",
    "Who wrote the opera Tosca?",
]


@pytest.fixture(scope="module")
def engine(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QueryEngine, Path, Path]]:
    """The default pipeline over a copy of the example corpus."""
    base = tmp_path_factory.mktemp("answers")
    corpus, state_dir = base / "corpus", base / "state"
    shutil.copytree(repository / "examples" / "corpus", corpus)
    report = index(LoadedConfig(PipelineConfig()), state_dir, IndexRequest([str(corpus)]))
    assert report.exit_status == 0
    with QueryEngine(PipelineConfig(), state_dir) as opened:
        yield opened, corpus, state_dir


def test_questions_are_answered_from_the_right_place(engine: tuple[QueryEngine, Path, Path], repository: Path) -> None:
    opened, corpus, state_dir = engine
    items = [json.loads(line) for line in (repository / "examples" / "questions.jsonl").read_text().splitlines()]
    answerable = [item for item in items if "source_id" in item]
    found = 0
    for item in answerable:
        chain = opened.query(QueryRequest(item["question"]))
        assert chain.answer is not None
        assert chain.answer.sentences, item["question"]
        for citation in chain.answer.citations:
            place = citation.place
            raw = (corpus.parent / place.source_id).read_bytes()
            cut = b"".join(raw[r.byte_start : r.byte_end] for r in place.source_ranges)
            assert cut.decode() == place.text
            found_here = place.source_id == item["source_id"] and (
                _squeezed(item["quote"]) in _squeezed(place.text) or _squeezed(place.text) in _squeezed(item["quote"])
            )
            if found_here:
                found += 1
                break
        with open_evidence(state_dir) as evidence:
            assert {finding.status for finding in verify_chain(chain, evidence)} == {"verified"}
    assert found >= 0.8 * len(answerable), f"the gold quote is cited for {found} of {len(answerable)} questions"


@pytest.mark.parametrize("question", OFF_TOPIC)
def test_what_the_corpus_does_not_answer_is_refused(question: str, engine: tuple[QueryEngine, Path, Path]) -> None:
    chain = engine[0].query(QueryRequest(question))
    assert chain.answer is not None
    assert (chain.passages, chain.answer.text, chain.answer.citations) == ((), "", ())


def test_a_question_longer_than_the_model_reads_is_refused(engine: tuple[QueryEngine, Path, Path]) -> None:
    with pytest.raises(InputError, match="tokens"):
        engine[0].query(QueryRequest("word " * 3000))


def test_the_same_question_gives_the_same_chain(engine: tuple[QueryEngine, Path, Path]) -> None:
    first, second = (engine[0].query(QueryRequest("Who can lift a legal hold?")) for _ in range(2))
    assert first.answer == second.answer
    assert first.candidates == second.candidates


def _squeezed(text: str) -> str:
    return " ".join(text.split())
