"""A reader that queries all the while never sees a mixture: each source in one version, whole."""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from ragstack.assembly import SharedIndex
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest
from ragstack.retrieval.generation_parts import GenerationParts
from tests.integration.harness import Index

SOURCES, ROUNDS = 6, 6


def write_version(corpus: Path, source: int, version: int) -> None:
    """A source whose number of chunks depends on its version; each chunk says which version it is of."""
    parts = [f"pump source {source} version {version} part {part} " + "word " * 14 for part in range(3 + version % 3)]
    (corpus / f"s{source}.txt").write_text("\n\n".join(parts))


class Reader(threading.Thread):
    """Asks until it is stopped; keeps, for each query, which chunks of which version of each source it saw."""

    def __init__(self, idx: Index, shared: SharedIndex) -> None:
        super().__init__()
        self.engine = QueryEngine(idx.loaded().config, idx.state_dir, shared)
        self.stopped = threading.Event()
        self.seen: list[tuple[int, dict[str, dict[str, set[int]]]]] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                chain = self.engine.query(QueryRequest("pump part word", with_answer=False))
                found: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
                for candidate in chain.candidates:
                    found[candidate.source_id][candidate.source_version].add(candidate.byte_start)
                self.seen.append((chain.index.generation, found))
        except BaseException as error:
            self.error = error
        finally:
            self.engine.close()


@pytest.mark.parametrize("change", ["files", "files and model"])
def test_each_source_is_seen_whole_in_one_version(change: str, idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0, "top_k": 100}}
    for source in range(SOURCES):
        write_version(corpus, source, 0)
    idx.run(corpus)
    store = idx.store()
    shared = SharedIndex(store)
    reader = Reader(idx, shared)
    whole: dict[tuple[int, str, str], set[int]] = {}

    def note_versions(generation: int) -> None:
        from ragstack.ledger.writer import Ledger

        ledger = Ledger(idx.state_dir)
        for row in ledger.sources(generation).values():
            whole[generation, row.source_id, row.source_version] = {span.byte_start for span in row.spans}
        ledger.close()

    note_versions(1)
    reader.start()
    try:
        for version in range(1, ROUNDS + 1):
            for source in range(SOURCES):
                if (source + version) % 2:
                    write_version(corpus, source, version)
            if change == "files and model":
                idx.config = {**idx.config, "embedder": {"type": "hashing", "dim": 32 + 8 * version}}
            request = IndexRequest([str(corpus)])
            report = index(idx.loaded(), idx.state_dir, request, shared=shared)
            note_versions(report.generation)
    finally:
        reader.stopped.set()
        reader.join(60)
        store.close()
    if reader.error is not None:
        raise reader.error
    assert len(reader.seen) > ROUNDS
    generations = [generation for generation, _ in reader.seen]
    assert generations == sorted(generations)
    for generation, found in reader.seen:
        assert len(found) == SOURCES, "no source is ever missing"
        for source_id, versions in found.items():
            assert len(versions) == 1, "one version at a time"
            for source_version, starts in versions.items():
                assert starts == whole[generation, source_id, source_version], "the version whole"
    final: Any = idx.content()
    assert final["superseded"] == []


def test_nothing_is_staged_under_a_query_that_read_the_ledger_before(
    idx: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a query searches without a filter, as nothing was pending; staged chunks would be seen beside old ones."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    write_version(corpus, 0, 0)
    idx.run(corpus)
    store = idx.store()
    shared = SharedIndex(store)
    engine = QueryEngine(idx.loaded().config, idx.state_dir, shared)
    has_read, may_search = threading.Event(), threading.Event()
    encode_query = GenerationParts.encode_query

    def slowly(*arguments: Any) -> Any:
        found = encode_query(*arguments)
        has_read.set()
        assert may_search.wait(60)
        return found

    monkeypatch.setattr(GenerationParts, "encode_query", slowly)
    chains: list[Any] = []
    reader = threading.Thread(target=lambda: chains.append(engine.query(QueryRequest("pump", with_answer=False))))
    reader.start()
    assert has_read.wait(60)
    write_version(corpus, 0, 1)
    writer = threading.Thread(
        target=lambda: index(idx.loaded(), idx.state_dir, IndexRequest([str(corpus)]), shared=shared)
    )
    writer.start()
    writer.join(1.5)
    may_search.set()
    reader.join(60)
    writer.join(60)
    engine.close()
    store.close()
    assert len({candidate.source_version for candidate in chains[0].candidates}) == 1
    assert len(chains[0].candidates) == 3, "the old version, whole"
