"""Another fingerprint builds a new generation beside the old one, which answers until the switch."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragstack.errors import IndexFormatError, IndexNotFoundError
from ragstack.ledger.schema import collection_name
from ragstack.ledger.writer import Ledger
from tests.integration.harness import Index


def states(idx: Index) -> dict[int, str]:
    ledger = Ledger(idx.state_dir)
    try:
        return {g.generation: g.state for g in ledger.generations()}
    finally:
        ledger.close()


def test_changed_settings_build_a_new_generation(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.run(corpus)
    idx.config = {**idx.config, "chunker": {"type": "sentence", "max_tokens": 16}}
    report = idx.run(corpus)
    assert "chunker" in report.rebuilt_because
    assert states(idx) == {2: "active"}
    other = Index(tmp_path / "other", idx.config)
    other.run(corpus)
    assert idx.content() == other.content()
    store = idx.store()
    assert store.collections() == [collection_name(2)]
    store.close()
    assert not (idx.state_dir / "tokens-1.db").exists()


def test_settings_that_store_nothing_new_do_not(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    idx.config = {**idx.config, "retrieval": {"top_k": 20, "rerank_k": 10}, "generator": {"max_sentences": 1}}
    assert idx.run(corpus).rebuilt_because == ""
    assert states(idx) == {1: "active"}


def test_a_rebuild_covers_every_root_ever_indexed(idx: Index, corpus: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "b.txt").write_text("Another root, about turbines.")
    idx.run(corpus)
    idx.run(second)
    idx.config = {**idx.config, "chunker": {"type": "recursive", "max_tokens": 32}}
    idx.run(corpus)
    assert "second/b.txt" in idx.content()["sources"]


def test_rebuild_asked_for(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.content()
    report = idx.run(corpus, rebuild=True)
    assert report.rebuilt_because == "asked for by --rebuild"
    assert states(idx) == {2: "active"}
    assert idx.content() == before


def test_the_old_generation_answers_with_its_own_model_until_the_switch(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.query("How is the pump primed?")
    idx.config = {**idx.config, "embedder": {"type": "hashing", "dim": 48}}
    assert idx.run_in_child(corpus, fault="published:1") == -9
    assert states(idx) == {1: "active", 2: "building"}
    during = idx.query("How is the pump primed?")
    assert [p.place for p in during.passages] == [p.place for p in before.passages]
    assert during.index.generation == 1
    idx.run(corpus)
    assert states(idx) == {2: "active"}
    assert idx.query("How is the pump primed?").index.generation == 2


def test_an_abandoned_generation_is_dropped(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    old = idx.config
    idx.config = {**idx.config, "embedder": {"type": "hashing", "dim": 48}}
    assert idx.run_in_child(corpus, fault="published:1") == -9
    idx.config = old
    idx.run(corpus)
    assert states(idx) == {1: "active"}
    store = idx.store()
    assert store.collections() == [collection_name(1)]
    store.close()


def test_lost_store_is_noticed_and_a_rebuild_is_the_way_back(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.content()
    store = idx.store()
    store.drop(collection_name(1))
    store.close()
    with pytest.raises(IndexFormatError, match="store holds 0 chunks"):
        idx.run(corpus)
    idx.run(corpus, rebuild=True)
    assert idx.content() == before


def test_a_rebuild_never_loses_a_source_that_cannot_be_read(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(b"Broken \xff\xfe bytes.")
    idx.config = {**idx.config, "chunker": {"type": "recursive", "max_tokens": 32}}
    report = idx.run(corpus)
    assert report.exit_status == 3
    assert states(idx) == {1: "active", 2: "building"}
    assert "corpus/guide.md" in idx.content()["sources"], "its last good version goes on answering"
    (corpus / "guide.md").write_text("Mended: the pump is primed with oil.")
    assert idx.run(corpus).exit_status == 0
    assert states(idx) == {2: "active"}
    assert "corpus/guide.md" in idx.content()["sources"]


def test_a_rebuild_may_leave_it_behind_when_told(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(b"Broken \xff\xfe bytes.")
    idx.config = {**idx.config, "chunker": {"type": "recursive", "max_tokens": 32}}
    assert idx.run(corpus, prune=True).exit_status == 3
    assert states(idx) == {2: "active"}
    assert "corpus/guide.md" not in idx.content()["sources"]


def test_query_before_index(idx: Index) -> None:
    with pytest.raises(IndexNotFoundError, match="no index"):
        idx.query("anything")
    with pytest.raises(IndexNotFoundError, match="no index"):
        idx.state_dir.mkdir(parents=True)
        idx.query("anything")
