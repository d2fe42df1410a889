"""The index path and the query path over every store: what ends up in it, after kills too, and what is found."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstack.retrieval.engine import QueryEngine, QueryRequest
from tests.integration.harness import SMALL_CONFIG, Index, write_corpus
from tests.integration.killing import write_new
from tests.servers import qdrant_fake
from tests.servers.milvus import TOKEN, running_server
from tests.servers.weaviate import weaviate_server

STORES = ("milvus-lite", "milvus-server", "qdrant", "weaviate")
FAULTS = ("staged", "archived", "published", "purged-chunks", "activated")
# A run on the standalone Milvus of 2023 takes many seconds, most of them waiting.
KILLS = [(store, fault) for store in STORES for fault in (FAULTS if store != "milvus-server" else ("published",))]


def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module", params=STORES)
def store_block(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes the ``store`` block of a new, empty store."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "milvus-lite":
        yield lambda: {"type": "milvus", "uri": str(folder / f"{prefix()}.db")}
    elif request.param == "milvus-server":
        with running_server(folder) as server:
            yield lambda: {"type": "milvus", "uri": server.uri, "token": TOKEN, "prefix": prefix()}
    elif request.param == "qdrant":
        with qdrant_fake.running() as server:
            yield lambda: {"type": "qdrant", "uri": server.uri, "prefix": prefix()}
    else:
        running = weaviate_server(folder)
        running.start()
        try:
            yield lambda: {
                "type": "weaviate", "uri": running.url, "grpc_port": running.grpc_port, "prefix": prefix()
            }  # fmt: skip
        finally:
            running.stop()


def index_in(folder: Path, store: dict[str, Any] | None) -> Index:
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}}
    if store is not None:
        config["store"] = store
        if "token" in store:  # the server of 2.3 has no sparse vectors
            config["retrieval"] = {"min_relevance": 0.0, "mode": "dense"}
    return Index(folder, config)


def assert_same(here: Index, there: Index) -> None:
    """Two indexes hold the same; vectors may differ in the last bits, as stores normalise them themselves."""
    first, second = here.content(), there.content()
    dense = [content.pop("dense") for content in (first, second)]
    assert first == second
    for identity, vector in dense[0].items():
        assert np.allclose(vector, dense[1][identity], atol=5e-5)


def test_the_same_index_and_answers_as_in_the_embedded_store(
    store_block: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    here = index_in(tmp_path / "here", store_block())
    embedded = index_in(tmp_path / "embedded", None)
    embedded.config["retrieval"] = here.config["retrieval"]
    for idx in (here, embedded):
        idx.run(corpus)
        (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with grease now.\n")
        (corpus / "tool.py").unlink(missing_ok=True)
        idx.run(corpus)
        assert idx.run(corpus).chunks_written == 0
        write_corpus(corpus)
    assert_same(here, embedded)
    for question in ("How is the pump primed?", "pressure bar entry", "Насос"):
        answers = [idx.query(question) for idx in (here, embedded)]
        assert [c.chunk_ids for c in answers[0].passages] == [c.chunk_ids for c in answers[1].passages], question


@pytest.mark.parametrize(("store_block", "fault"), KILLS, indirect=["store_block"], scope="module")
def test_killed_and_run_again(store_block: Callable[[], dict[str, Any]], fault: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_new(corpus)
    idx = index_in(tmp_path / "index", store_block())
    idx.run(corpus)
    for path in sorted(corpus.rglob("*.md"))[:2]:
        path.write_text("Written anew. " * 30)
    assert idx.run_in_child(corpus, fault=fault, extra=["--rebuild"] if fault == "activated" else []) == -9
    idx.run(corpus)
    clean = index_in(tmp_path / "clean", None)
    clean.run(corpus)
    assert_same(idx, clean)


def test_readers_of_another_process_hold_the_purge_back(
    store_block: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("The pump is primed with oil.")
    idx = index_in(tmp_path / "index", store_block())
    idx.run(corpus)
    if "prefix" not in idx.config["store"]:
        pytest.xfail("Milvus Lite is one file that one process holds")
    seen: list[set[str]] = []
    with QueryEngine(idx.loaded().config, idx.state_dir) as engine:
        stopped = threading.Event()

        def ask() -> None:
            while not stopped.is_set():
                chain = engine.query(QueryRequest("pump primed", with_answer=False))
                seen.append({candidate.source_version for candidate in chain.candidates})

        reader = threading.Thread(target=ask)
        reader.start()
        try:
            for number in range(4):
                (corpus / "a.txt").write_text(f"The pump is primed with grease number {number}.")
                assert idx.run_in_child(corpus) == 0
        finally:
            stopped.set()
            reader.join()
    assert seen
    assert all(len(versions) == 1 for versions in seen), "a query saw none or two versions of the source"
