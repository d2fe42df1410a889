"""Token vectors over the life of an index: stored or recomputed, counted consistently, never misread."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ragstack.assembly import token_vector_store
from ragstack.errors import IndexFormatError
from ragstack.indexer.repair import fsck
from ragstack.ledger.schema import LEDGER_FILE, TOKENS
from tests.integration.harness import Index

RECOMPUTED = {"type": "late_interaction", "token_vectors": "recomputed"}
QUESTION = "How is the pump started after a failure?"


@pytest.fixture
def idx(idx: Index) -> Index:
    """An index that refuses nothing: the embedder without a model tells little of relevance."""
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    return idx


def frequencies(idx: Index) -> dict[int, int]:
    """In how many chunks each word occurs, as the ledger has it."""
    with closing(sqlite3.connect(idx.state_dir / LEDGER_FILE)) as ledger:
        rows = ledger.execute("SELECT id, frequency FROM frequencies WHERE kind=? AND frequency != 0", (TOKENS,))
        return dict(rows.fetchall())


def shapes(idx: Index, generation: int = 1) -> set[bool]:
    """Whether the stored entries have vectors."""
    store = token_vector_store(idx.state_dir / f"tokens-{generation}.db", idx.loaded().config)
    with closing(store):
        return {tokens.vectors.shape[1] > 0 for tokens in store.get(sorted(store.chunk_ids())).values()}


def test_recomputed_vectors_give_the_ranking_of_stored_ones(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.run(corpus)
    other = Index(tmp_path / "other", {**idx.config, "reranker": RECOMPUTED})
    other.run(corpus)
    assert shapes(idx) == {True} and shapes(other) == {False}
    assert frequencies(idx) == frequencies(other) != {}
    stored, recomputed = idx.query(QUESTION), other.query(QUESTION)
    assert [p.place.source_id for p in stored.passages] == [p.place.source_id for p in recomputed.passages] != []
    for one, two in zip(stored.passages, recomputed.passages, strict=True):
        assert one.score_parts == pytest.approx(two.score_parts, abs=0.01)
    assert stored.answer is not None and recomputed.answer is not None
    assert stored.answer.text == recomputed.answer.text != ""


def test_an_index_without_stored_vectors_is_kept_up_like_any_other(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.config = {**idx.config, "reranker": RECOMPUTED}
    idx.run(corpus)
    (corpus / "guide.md").rename(corpus / "manual.md")
    (corpus / "notes.txt").write_text("The pump was replaced on Monday.")
    idx.run(corpus)
    clean = Index(tmp_path / "clean", idx.config)
    clean.run(corpus)
    assert idx.content() == clean.content()
    assert frequencies(idx) == frequencies(clean)
    assert not fsck(idx.loaded(), idx.state_dir).findings.differences


def test_changing_where_vectors_come_from_builds_a_new_generation(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    idx.config = {**idx.config, "reranker": RECOMPUTED}
    # Until the index is built anew it answers with what it has.
    assert idx.query(QUESTION).passages
    assert idx.run(corpus).rebuilt_because == "changed: token vectors"
    assert shapes(idx, 2) == {False}
    assert idx.query(QUESTION).passages


def test_an_index_of_an_older_format_is_named_and_built_anew(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    with closing(sqlite3.connect(idx.state_dir / "tokens-1.db")) as tokens:
        tokens.execute("PRAGMA user_version=1")
    with closing(sqlite3.connect(idx.state_dir / LEDGER_FILE)) as ledger, ledger:
        config: dict[str, Any] = json.loads(ledger.execute("SELECT config FROM generations").fetchone()[0])
        config["parts"]["token_vectors"] = True
        ledger.execute("UPDATE generations SET fingerprint=?, config=?", ("0" * 64, json.dumps(config)))
    with pytest.raises(IndexFormatError, match="format version 1; this ragstack reads version 2") as caught:
        idx.query(QUESTION)
    assert "ragstack index" in caught.value.hint
    report = idx.run(corpus)
    assert report.rebuilt_because == "changed: token vectors"
    assert idx.query(QUESTION).passages
    assert not (idx.state_dir / "tokens-1.db").exists()


def test_words_of_several_pieces_are_counted_as_they_are_kept(idx: Index, tmp_path: Path) -> None:
    """With the real model, whose pieces are joined and whose stop words are left out."""
    idx.config = {"version": 1, "indexer": idx.config["indexer"]}
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("Photosynthesis needs light. To be or not to be, that is the question.")
    (folder / "b.txt").write_text("To be or not to be.")
    idx.run(folder)
    (folder / "a.txt").write_text("Chemosynthesis needs no light; photosynthesis does, they say.")
    idx.run(folder)
    clean = Index(tmp_path / "clean", idx.config)
    clean.run(folder)
    assert frequencies(idx) == frequencies(clean) != {}
    assert any(word >= 1 << 30 for word in frequencies(idx))
    assert not fsck(idx.loaded(), idx.state_dir).findings.differences
    with_pieces = idx.query("What does photosynthesis need?").passages
    assert with_pieces and with_pieces[0].place.source_id.endswith("a.txt")
