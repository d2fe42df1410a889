"""The Python API: one opened pipeline indexes, answers, streams and verifies."""

from __future__ import annotations

import asyncio
import json
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ragstack
from ragstack.citations.chain import Chain
from ragstack.errors import ConfigError, IndexNotFoundError, InputError, StoreUnavailableError
from ragstack.retrieval.events import Answered, PassagesFound, SentenceWritten
from tests.integration.harness import SMALL_CONFIG

PUMP = "The pump of line seven runs at 40 bar. It is checked every Monday by the night shift.\n"
VALVE = "The <b>valve</b> & its seal are replaced after 300 hours of service. The log is kept in room 12.\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "pump.txt").write_text(PUMP)
    (folder / "valve.txt").write_text(VALVE)
    return folder


@pytest.fixture
def pipeline(tmp_path: Path) -> ragstack.Pipeline:
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
    with ragstack.open(config, state_dir=tmp_path / "state") as opened:
        yield opened


def test_it_indexes_answers_and_verifies(pipeline: ragstack.Pipeline, corpus: Path, tmp_path: Path) -> None:
    assert pipeline.index(corpus).added == 2
    result = pipeline.query("After how many hours is the valve replaced?")
    assert "300 hours" in result.text
    for citation in result.citations:
        raw = (corpus / Path(citation.place.source_id).name).read_bytes()
        cut = b"".join(raw[r.byte_start : r.byte_end] for r in citation.place.source_ranges)
        assert cut.decode() == citation.place.text
    saved = tmp_path / "chain.json"
    saved.write_text(json.dumps(result.to_json()))
    for chain in (result.chain, result.to_json(), saved):
        assert {finding.status for finding in pipeline.verify(chain)} == {"verified"}


def test_events_come_in_order_and_add_up_to_the_answer(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    first, *sentences, last = pipeline.stream("How many bar does the pump run at, and when is it checked?")
    assert isinstance(first, PassagesFound)
    assert isinstance(last, Answered)
    assert first.chain.answer is None
    assert first.chain.passages == last.chain.passages
    assert first.chain.computed_digest() == first.chain.digest
    written = [event for event in sentences if isinstance(event, SentenceWritten)]
    assert len(written) == len(sentences) > 0
    assert last.chain.answer is not None
    assert "".join(event.delta for event in written) == last.chain.answer.text
    assert tuple(c for event in written for c in event.citations) == last.chain.answer.citations
    assert tuple(event.sentence for event in written) == last.chain.answer.sentences


def test_async_queries_give_what_sync_ones_give(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    question = "Where is the log kept?"

    async def ask() -> tuple[Chain, list[object], list[ragstack.retrieval.result.QueryResult]]:
        events = [event async for event in pipeline.astream(question)]
        several = await asyncio.gather(*(pipeline.aquery(question) for _ in range(8)))
        return events[-1].chain, events, several

    chain, events, several = asyncio.run(ask())
    assert isinstance(events[-1], Answered)
    texts = {result.text for result in several} | {chain.answer.text, pipeline.query(question).text}
    assert len(texts) == 1
    assert "room 12" in texts.pop()


def test_queries_go_on_while_it_indexes(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    for number in range(30):
        (corpus / f"more-{number}.txt").write_text(f"Report {number} is about turbines. " * 20)
    stop = threading.Event()
    answers: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            answers.append(pipeline.query("How many bar does the pump run at?").text)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        assert pipeline.index(corpus).added == 30
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert answers
    assert all("40 bar" in answer for answer in answers)


def test_an_erased_source_is_gone_at_once(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    before = pipeline.query("valve seal").chain
    report = pipeline.erase("corpus/valve.txt")
    assert [source.source_id for source in report.erased] == ["corpus/valve.txt"]
    after = pipeline.query("valve seal").chain
    assert {candidate.source_id for candidate in before.candidates} == {"corpus/pump.txt", "corpus/valve.txt"}
    assert {candidate.source_id for candidate in after.candidates} == {"corpus/pump.txt"}
    for file in pipeline.state_dir.rglob("*"):
        assert not file.is_file() or b"valve" not in file.read_bytes(), file


def test_mistakes_are_errors_of_the_family(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        pipeline.query("anything")
    pipeline.index(corpus)
    with pytest.raises(InputError, match="empty"):
        pipeline.query("  ")
    with pytest.raises(InputError, match="top_n"):
        next(pipeline.stream("pump", top_n=0))
    with pytest.raises(ConfigError, match="chunkr"):
        ragstack.open({"chunkr": {}})
    pipeline.close()
    pipeline.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        pipeline.query("pump")


def test_a_notebook_shows_the_answer_and_marks_the_quotes(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    result = pipeline.query("After how many hours is the valve replaced?")
    seen = _Seen()
    seen.feed(result._repr_html_())
    assert seen.open == []
    assert "b" in seen.tags
    marked = "".join(seen.marked)
    for citation in result.citations:
        assert citation.place.text in marked
    assert "<b>valve</b>" in marked, "text of the corpus is text, not markup"


class _Seen(HTMLParser):
    """What a browser would show, as far as the test asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.marked: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "mark" in self.open:
            self.marked.append(data)
