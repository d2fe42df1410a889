"""The Python API: one opened pipeline indexes, answers, streams and verifies."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ragstack
from ragstack.citations.chain import AnswerError, Chain
from ragstack.errors import (
    ConfigError,
    FilterError,
    IndexNotFoundError,
    IndexStateError,
    InputError,
    StoreUnavailableError,
)
from ragstack.generation.base import AnswerEnd, AnswerStream, ContextPassage, Question, Turn
from ragstack.indexer.report import SilentProgress
from ragstack.retrieval.events import Answered, PassagesFound, QueryEvent, SentenceWritten
from ragstack.retrieval.result import QueryResult
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


def test_arguments_of_other_types_are_refused(pipeline: ragstack.Pipeline, corpus: Path, tmp_path: Path) -> None:
    pipeline.index(corpus)
    with pytest.raises(FilterError, match="expected an object"):
        pipeline.query("pump", filter="source_id == 'a'")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="empty"):
        pipeline.query(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got int"):
        ragstack.open(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read"):
        pipeline.verify(tmp_path / "no-such-chain.json")
    assert {finding.status for finding in pipeline.verify(pipeline.query("pump"))} == {"verified"}


def test_a_question_without_an_index_makes_nothing(pipeline: ragstack.Pipeline) -> None:
    with pytest.raises(IndexNotFoundError):
        pipeline.query("pump")
    assert not pipeline.state_dir.exists()


def test_closing_breaks_an_answer_off_with_a_plain_word(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    events = pipeline.stream("How many bar does the pump run at?")
    assert isinstance(next(events), PassagesFound)
    pipeline.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        list(events)
    with pytest.raises(StoreUnavailableError, match="closed"):
        pipeline.index(corpus)


def test_closing_under_queries_ends_them_with_one_kind_of_error(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    pipeline.query("pump")
    outcomes: list[str] = []
    started = threading.Barrier(5)

    def ask() -> None:
        started.wait()
        try:
            while True:
                pipeline.query("How many bar does the pump run at?")
        except Exception as error:
            outcomes.append(type(error).__name__)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    started.wait()
    pipeline.query("pump")
    pipeline.close()
    for asker in askers:
        asker.join()
    assert outcomes == ["StoreUnavailableError"] * 4


def test_closing_from_within_a_run_is_an_error_and_no_deadlock(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    """As a signal handler would."""

    class Closing(SilentProgress):
        def planned(self, files: int, size_bytes: int) -> None:
            pipeline.close()

    with pytest.raises(IndexStateError, match="from within"):
        pipeline.index(corpus, progress=Closing())
    assert pipeline.index(corpus).chunk_count > 0


def test_a_pipeline_that_is_dropped_lets_the_next_one_in(tmp_path: Path, corpus: Path) -> None:
    """As when a cell of a notebook runs again."""
    for _ in range(3):
        opened = ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state")
        opened.index(corpus)
        events = opened.stream("pump")
        next(events)
        del opened, events
    with ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state") as last:
        assert last.query("pump").passages


def test_a_stream_that_is_left_holds_nothing_up(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    left = [pipeline.stream("pump") for _ in range(3)]
    for events in left[1:]:
        next(events)
    left[1].close()
    (corpus / "pump.txt").write_text("The pump of line seven was taken away.\n")
    assert pipeline.index(corpus).changed == 1
    assert pipeline.index(corpus, rebuild=True).generation == 2
    pipeline.erase("corpus/valve.txt")
    assert "taken away" in pipeline.query("What of the pump of line seven?").text
    pipeline.close()


def test_an_answer_goes_on_with_its_own_generation_when_another_becomes_active(
    pipeline: ragstack.Pipeline, corpus: Path
) -> None:
    pipeline.index(corpus)
    question = "How many bar does the pump run at, and when is it checked?"
    events = pipeline.stream(question)
    first = next(events)
    assert isinstance(first, PassagesFound)
    (corpus / "pump.txt").write_text("The pump of line seven was taken away.\n")
    assert pipeline.index(corpus, rebuild=True).generation == 2
    assert "taken away" in pipeline.query("What of the pump of line seven?").text
    *_, last = events
    assert isinstance(last, Answered)
    assert last.chain.answer is not None
    assert "40 bar" in last.chain.answer.text
    assert last.chain.index == first.chain.index
    assert "wrong" not in {finding.status for finding in pipeline.verify(last.chain)}


def test_an_async_stream_that_is_cancelled_or_left_ends_at_once(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    slow = _SlowGenerator()
    pipeline.engine._generator = slow  # a model that takes its time

    async def cancel_while_waiting() -> None:
        task = asyncio.ensure_future(_read_all(pipeline))
        assert await asyncio.to_thread(slow.waiting.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def leave_after_passages() -> None:
        events = pipeline.astream("pump")
        assert isinstance(await anext(events), PassagesFound)
        await events.aclose()

    asyncio.run(cancel_while_waiting())
    assert slow.ended.wait(10)
    asyncio.run(leave_after_passages())


async def _read_all(pipeline: ragstack.Pipeline) -> list[QueryEvent]:
    return [event async for event in pipeline.astream("How many bar does the pump run at?")]


class _SlowGenerator:
    """Waits until nobody wants the answer any more: what a language model does that never ends."""

    name = "slow"

    def __init__(self) -> None:
        self.waiting, self.ended, self._asked = threading.Event(), threading.Event(), threading.Event()

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream:
        with question.cancellation.calling(self._asked.set):
            self.waiting.set()
            self._asked.wait(10)
        self.ended.set()
        yield AnswerEnd()

    def condense(self, history: Sequence[Turn], text: str) -> str:
        return text

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_told_to_open_its_own_and_harms_nothing(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    code = f"""
import os, sys, ragstack
from ragstack.errors import StoreUnavailableError
config = {SMALL_CONFIG!r}
pipeline = ragstack.open(config, state_dir={os.fspath(pipeline.state_dir)!r})
pipeline.query("pump")
child = os.fork()
if child == 0:
    try:
        pipeline.query("pump")
    except StoreUnavailableError as error:
        pipeline.close()
        del pipeline
        print(error, flush=True)
        sys.exit(7 if "of which this one is a fork" in str(error) else 1)
    sys.exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
again = ragstack.open(config, state_dir={os.fspath(pipeline.state_dir)!r})
try:
    again.query("pump")
    sys.exit(3)
except ragstack.errors.IndexLockedError:
    pass
print(pipeline.query("pump").passages[0].place.source_id)
"""
    pipeline.close()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "corpus/pump.txt"


def test_answers_and_errors_cross_processes_and_pipelines_say_why_not(
    pipeline: ragstack.Pipeline, corpus: Path
) -> None:
    pipeline.index(corpus)
    result = pipeline.query("pump")
    assert pickle.loads(pickle.dumps(result)) == result
    with pytest.raises(TypeError, match="open one in each process"):
        pickle.dumps(pipeline)


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
    assert "300 hours" in repr(result)
    assert len(repr(result)) < 400


def test_a_notebook_shows_why_there_is_no_answer(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    pipeline.index(corpus)
    chain = pipeline.query("pump").chain
    assert chain.answer is not None
    error = AnswerError(message="the <model> is down.", hint="Start it.")
    down = chain.answer.model_copy(update={"text": "", "sentences": (), "citations": (), "error": error})
    shown = QueryResult(chain.model_copy(update={"answer": down}))._repr_html_()
    assert "There is no answer." in shown
    assert "the &lt;model&gt; is down. Start it." in shown
    assert "Nothing in the corpus" not in shown
    assert "40 bar" in shown, "the passages are there all the same"
    empty = chain.answer.model_copy(update={"text": "", "sentences": (), "citations": ()})
    nothing = QueryResult(chain.model_copy(update={"answer": empty, "passages": ()}))._repr_html_()
    assert "Nothing in the corpus answers this." in nothing


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
