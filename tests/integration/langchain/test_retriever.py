"""The retriever: documents are citations; filters narrow; local and remote agree."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from langchain_core.documents import Document
from pydantic import SecretStr

import ragstack
from ragstack.errors import FilterError, IndexNotFoundError, InputError, RemoteError
from ragstack.integrations.langchain import RagstackRetriever
from tests.integration.langchain.conftest import CONFIG

QUESTION = "How many bar does the pump run at?"
YEAR_2024 = {"field": "year", "op": "eq", "value": 2024}


@pytest.fixture(params=["local", "remote"])
def retriever(request: pytest.FixtureRequest) -> RagstackRetriever:
    if request.param == "local":
        return RagstackRetriever(pipeline=request.getfixturevalue("pipeline"))
    return RagstackRetriever(url=request.getfixturevalue("url"))


def test_every_document_leads_to_the_bytes_of_its_source(retriever: RagstackRetriever, corpus: Path) -> None:
    documents = retriever.invoke(QUESTION)
    assert len(documents) >= 4
    assert any(d.metadata["source_ranges"][0]["byte_start"] == d.metadata["byte_start"] + 3 for d in documents)
    for rank, document in enumerate(documents, 1):
        place = document.metadata
        raw = (corpus.parent / place["source_id"]).read_bytes()
        cut = b"".join(raw[r["byte_start"] : r["byte_end"]] for r in place["source_ranges"])
        assert cut.decode(place["source_encoding"]) == document.page_content
        assert raw[: place["source_ranges"][0]["byte_start"]].count(b"\n") + 1 == place["line_start"]
        assert place["rank"] == rank
        assert document.id == place["chunk_ids"][0] or len(place["chunk_ids"]) > 1
        json.dumps(place)
    assert len({document.id for document in documents}) == len(documents)
    assert [d.metadata["score"] for d in documents] == sorted((d.metadata["score"] for d in documents), reverse=True)
    best = documents[0].metadata
    assert best["source_id"] == "corpus/pump.md"
    assert best["heading_path"][0] == "Pumps"


def test_a_local_pipelines_passages_are_checked_against_their_sources(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("The pump runs at 40 bar.\n")
    (folder / "b.txt").write_text("The pump was built in Graz.\n")
    with ragstack.open(CONFIG, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(folder)
        (folder / "b.txt").write_text("The pump was built in Linz.\n")
        found = RagstackRetriever(pipeline=pipeline).invoke("pump")
        unchecked = RagstackRetriever(pipeline=pipeline, verify=False).invoke("pump")
    statuses = {document.metadata["source_id"]: document.metadata["citation_status"] for document in found}
    assert statuses == {"corpus/a.txt": "verified", "corpus/b.txt": "source_changed"}
    assert [document.metadata["citation_status"] for document in unchecked] == [None, None]


def test_filters_of_retriever_and_call_both_hold(retriever: RagstackRetriever) -> None:
    narrowed = retriever.model_copy(update={"filter": YEAR_2024})
    assert {d.metadata["source_id"] for d in narrowed.invoke("pump")} == {"corpus/valve.md"}
    pump = {"field": "source_id", "op": "eq", "value": "corpus/pump.md"}
    assert {d.metadata["source_id"] for d in retriever.invoke("pump", filter=pump)} == {"corpus/pump.md"}
    assert narrowed.invoke("pump", filter=pump) == [], "a call cannot widen what the retriever was made with"
    with pytest.raises(FilterError, match="colour"):
        retriever.invoke("pump", filter={"field": "colour", "op": "eq", "value": "red"})
    with pytest.raises(FilterError, match="expected exactly the keys"):
        retriever.invoke("pump", filter={"source": "pump.md"})


def test_k_is_that_of_the_call_then_of_the_retriever(retriever: RagstackRetriever) -> None:
    one = retriever.model_copy(update={"k": 1})
    assert len(one.invoke(QUESTION)) == 1
    assert len(one.invoke(QUESTION, k=3)) == 3
    with pytest.raises(InputError, match="top_n"):
        retriever.invoke(QUESTION, k=1000)
    with pytest.raises(InputError, match="empty"):
        retriever.invoke("  ")


def test_async_and_batched_calls_give_what_single_ones_give(retriever: RagstackRetriever) -> None:
    questions = [QUESTION, "Where is the log kept?", "When is the valve replaced?"] * 5
    expected = [_shown(retriever.invoke(question)) for question in questions]
    assert [_shown(found) for found in retriever.batch(questions)] == expected
    for _ in range(2):  # two event loops in turn
        assert [_shown(found) for found in asyncio.run(retriever.abatch(questions))] == expected


def test_local_and_remote_agree(pipeline: ragstack.Pipeline, url: str) -> None:
    local, remote = RagstackRetriever(pipeline=pipeline), RagstackRetriever(url=url)
    assert _shown(local.invoke(QUESTION)) == _shown(remote.invoke(QUESTION))


def _shown(documents: list[Document]) -> list[tuple[str | None, str, str]]:
    return [(document.id, document.page_content, document.metadata["citation_id"]) for document in documents]


def test_a_loop_is_not_blocked_by_a_local_pipeline(
    pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    query = pipeline.query

    def slow(*args: object, **options: object) -> object:
        entered.set()
        leave.wait(10)
        return query(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "query", slow)

    async def ask() -> bool:
        asked = asyncio.ensure_future(RagstackRetriever(pipeline=pipeline).ainvoke(QUESTION))
        while not entered.is_set():
            await asyncio.sleep(0.01)
        was_free = not asked.done()
        leave.set()
        return was_free and bool(await asked)

    assert asyncio.run(ask())


def test_a_config_is_opened_when_it_is_used_and_closed_with_the_retriever(tmp_path: Path) -> None:
    config = {**CONFIG, "indexer": {"state_dir": str(tmp_path / "state")}}
    with RagstackRetriever(pipeline=config) as retriever:
        assert not (tmp_path / "state").exists()
        with pytest.raises(IndexNotFoundError):
            retriever.invoke("pump")
        file = tmp_path / "a.txt"
        file.write_text("The pump runs at 40 bar.\n")
        retriever._backend.pipeline.index(file)  # type: ignore[attr-defined]
        assert len(retriever.invoke("pump")) == 1
    with ragstack.open(config) as again:  # nothing holds its lock any more
        assert again.query("pump").passages


def test_mistakes_are_told_when_it_is_made(pipeline: ragstack.Pipeline) -> None:
    with pytest.raises(InputError, match="neither"):
        RagstackRetriever()
    with pytest.raises(InputError, match="both"):
        RagstackRetriever(pipeline=pipeline, url="http://127.0.0.1:1")
    with pytest.raises(InputError, match="not the address"):
        RagstackRetriever(url="127.0.0.1:8000")
    with pytest.raises(InputError, match="user or a password") as caught:
        RagstackRetriever(url="http://me:hunter2@127.0.0.1")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(FilterError):
        RagstackRetriever(pipeline=pipeline, filter={"year": 2024})


def test_a_server_that_is_away_is_an_error_without_secrets() -> None:
    retriever = RagstackRetriever(url="http://127.0.0.1:9", api_key=SecretStr("hunter2"), max_retries=0)
    with pytest.raises(RemoteError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        retriever.invoke("pump")
    with pytest.raises(RemoteError, match="cannot be reached"):
        asyncio.run(retriever.ainvoke("pump"))
    assert "hunter2" not in f"{caught.value}{retriever!r}{retriever.model_dump_json(exclude={'pipeline'})}"
