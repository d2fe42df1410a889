"""The clients over a served index: what they give is what the pipeline gives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import ragstack
from ragstack.api.keys import KeyFile
from ragstack.client.replies import CheckedSentence
from ragstack.errors import FilterError, InputError, RemoteError
from ragstack.generation.base import Turn
from ragstack.retrieval.events import Answered, PassagesFound, QueryEvent
from ragstack.testing.hashing_embedder import HashingEmbedder
from tests.integration.client.conftest import CONFIG, FILES
from tests.servers.rest import serving

QUESTION = "After how many hours is the valve of the pump replaced?"


def test_a_question_is_answered_with_its_chain(url: str) -> None:
    with ragstack.Client(url) as client:
        result = client.query(QUESTION, top_n=2, history=[Turn("user", "Tell me of line seven.")])
        assert "300 hours" in result.text
        assert result.chain.computed_digest() == result.chain.digest
        assert len(client.retrieve(QUESTION, top_n=1).passages) == 1
        assert client.retrieve(QUESTION).chain.answer is None
        only_pump = {"field": "source_id", "op": "eq", "value": "corpus/pump.txt"}
        assert {p.place.source_id for p in client.retrieve(QUESTION, filter=only_pump).passages} == {"corpus/pump.txt"}


def test_events_of_a_streamed_answer_add_up(url: str) -> None:
    with ragstack.Client(url) as client:
        _check_events(list(client.stream(QUESTION)))
        events = client.stream(QUESTION)
        assert isinstance(next(events), PassagesFound)
        events.close()
        assert client.query(QUESTION).text, "a stream that was left does not disturb the next request"


@pytest.mark.anyio
async def test_a_query_is_explained(url: str) -> None:
    with ragstack.Client(url) as client:
        explanation = client.explain(QUESTION, "corpus/valve.txt:1", history=[Turn("user", "Tell me of line seven.")])
        assert explanation.outcome == "cited"
        assert client.explain(QUESTION, with_answer=False, top_n=1).chain.answer is None
        with pytest.raises(InputError, match="ends with line 1"):
            client.explain(QUESTION, "corpus/valve.txt:7")
    async with ragstack.AsyncClient(url) as asking:
        assert (await asking.explain(QUESTION, "corpus/none.txt")).outcome == "not_a_source"


@pytest.mark.anyio
async def test_the_async_client_gives_the_same(url: str) -> None:
    async with ragstack.AsyncClient(url) as client:
        _check_events([event async for event in client.stream(QUESTION)])
        results = await asyncio.gather(*(client.query(QUESTION) for _ in range(8)))
        assert {result.text for result in results} == {ragstack.Client(url).query(QUESTION).text}
        assert {finding.status for finding in await client.verify(results[0])} == {"verified"}
        vectors = await client.embed(["a valve"], input_type="passage")
        assert np.array_equal(vectors, ragstack.Client(url).embed(["a valve"], input_type="passage"))
        assert (await client.rank("valve", ["a pump", "a valve"]))[0].index == 1


def _check_events(events: list[QueryEvent]) -> None:
    first, *sentences, last = events
    assert isinstance(first, PassagesFound)
    assert isinstance(last, Answered)
    assert last.chain.answer is not None
    written = [event for event in sentences if isinstance(event, CheckedSentence)]
    assert "".join(event.delta for event in written) == last.chain.answer.text
    assert tuple(c for event in written for c in event.citations) == last.chain.answer.citations
    assert {status for event in written for status in event.statuses} == {"verified"}


def test_citations_are_opened_and_checked_again(url: str) -> None:
    with ragstack.Client(url) as client:
        result = client.query(QUESTION)
        [first, *_] = result.citations
        opened = client.citation(first.citation_id)
        assert opened.place.text == first.place.text == opened.context.text
        assert {finding.status for finding in client.verify(result)} == {"verified"}
        answer = result.chain.answer
        assert answer is not None
        text = f"{first.place.text[:-1]}!"
        forged = first.model_copy(update={"place": first.place.model_copy(update={"text": text})})
        edited = result.chain.model_copy(update={"answer": answer.model_copy(update={"citations": (forged,)})})
        assert [finding.status for finding in client.verify(edited)] == ["wrong", "wrong"]
        unknown = first.model_copy(update={"citation_id": "00000000-0000-5000-8000-000000000000"})
        other = result.chain.model_copy(update={"answer": answer.model_copy(update={"citations": (unknown,)})})
        other = other.model_copy(update={"digest": other.computed_digest()})
        assert [finding.status for finding in client.verify(other)] == ["unverifiable"]


def test_texts_are_embedded_in_several_requests_and_keep_their_order(url: str) -> None:
    texts = [f"text {number} für 水" for number in range(600)]
    with ragstack.Client(url) as client:
        found = client.embed(texts, input_type="passage")
        assert client.embed(texts[:1], input_type="query").shape == (1, 32)
    embedder = HashingEmbedder(dim=32)
    assert np.allclose(found, embedder.embed(texts, "passage").dense, atol=1e-6)


def test_passages_are_ranked(url: str) -> None:
    with ragstack.Client(url) as client:
        ranking = client.rank("valve", ["a pump", "the valve", "a lamp"])
    assert ranking[0].index == 1
    assert sorted(item.index for item in ranking) == [0, 1, 2]
    assert [item.logit for item in ranking] == sorted((item.logit for item in ranking), reverse=True)


def test_mistakes_come_back_in_the_familys_classes(url: str, tmp_path: Path) -> None:
    with ragstack.Client(url) as client:
        with pytest.raises(FilterError, match="colour"):
            client.query("pump", filter={"field": "colour", "op": "eq", "value": "red"})
        with pytest.raises(InputError, match="top_n"):
            client.query("pump", top_n=1000)
        with pytest.raises(InputError, match="top_n"):
            next(client.stream("pump", top_n=1000))
        with pytest.raises(InputError, match="no texts"):
            client.embed([], input_type="query")
        with pytest.raises(RemoteError) as caught:
            client.citation("nothing")
        assert caught.value.status == 404
        assert caught.value.request_id
    with pytest.raises(RemoteError, match="closed"):
        client.query("pump")


def test_a_key_is_sent_and_its_filter_cannot_be_widened(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name, text in FILES.items():
        (tmp_path / "corpus" / name).write_text(text)
    pipeline = ragstack.open(CONFIG, state_dir=tmp_path / "state")
    pipeline.index(tmp_path / "corpus")
    valve = {"field": "source_id", "op": "eq", "value": "corpus/valve.txt"}
    _, secret = KeyFile(tmp_path / "state").create("reader", scopes=["query"], filter=valve)
    with serving(pipeline) as url:
        with ragstack.Client(url, secret) as client:
            everything = {"not": {"field": "source_id", "op": "eq", "value": "nothing"}}
            assert {p.place.source_id for p in client.retrieve("pump", filter=everything).passages} == {
                "corpus/valve.txt"
            }
        for key in (None, "wrong"):
            with ragstack.Client(url, key) as stranger, pytest.raises(RemoteError, match="key") as caught:
                stranger.query("pump")
            assert caught.value.status == 401
