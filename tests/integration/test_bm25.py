"""BM25 through index and query path: the statistics are those of the snapshot, whatever came and went."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ragstack.adapters.base import Hit
from ragstack.embedding.term_index import term_index
from ragstack.embedding.term_languages import TermLanguages
from ragstack.embedding.terms import TermAnalyzer
from ragstack.ledger.schema import LANGUAGES as LANGUAGE_COUNTS
from ragstack.ledger.schema import LENGTHS, TERMS, collection_name, language_code, language_number
from ragstack.ledger.snapshot import SnapshotReader
from tests.bm25_oracle import bm25_scores
from tests.integration.harness import SMALL_CONFIG, Index, write_corpus

ANALYZER = TermAnalyzer("english")
LANGUAGES = TermLanguages("auto", "english")
QUESTIONS = ("the red lever", "pump oil kelvin gaskets")


def terms_by_id(idx: Index) -> dict[str, list[str]]:
    """The terms of every chunk that the store holds, its headings' among them, twice."""
    snapshot = SnapshotReader(idx.state_dir)
    generation = snapshot.read().generation
    snapshot.close()
    store = idx.store()
    try:
        hits: list[Hit] = list(store.iterate(collection_name(generation)))
    finally:
        store.close()
    return {
        h.id: LANGUAGES.of_text(h.payload["text_language"]).analyzer.terms(
            "\n".join([*h.payload["heading_path"], *h.payload["heading_path"], h.payload["text"]])
        )
        for h in hits
    }


def assert_statistics(idx: Index) -> dict[str, list[str]]:
    """The ledger's statistics are those that counting all texts gives; returns each chunk's terms."""
    passages = terms_by_id(idx)
    found: dict[int, dict[int, int]] = {}
    for kind, identity, frequency in idx.content()["frequencies"]:
        found.setdefault(kind, {})[identity] = frequency
    assert found[TERMS] == Counter(term_index(term) for terms in passages.values() for term in set(terms))
    assert found[LENGTHS] == Counter(map(len, passages.values()))
    languages = [payload["text_language"] for payload in idx.content()["payloads"].values()]
    assert found[LANGUAGE_COUNTS] == Counter(map(language_number, languages))
    return passages


def assert_plain_bm25(idx: Index) -> None:
    """And each candidate's score is that of plain BM25."""
    passages = assert_statistics(idx)
    block = idx.loaded().config.embedder.bm25  # type: ignore[union-attr]
    for question in QUESTIONS:
        expected = bm25_scores(ANALYZER.terms(question), passages, block.k1, block.b)
        legs = {c.chunk_id: c.legs["sparse"] for c in idx.query(question).candidates if "sparse" in c.legs}
        assert {i: leg.score for i, leg in legs.items()} == pytest.approx(expected, rel=1e-5)
        best_first = sorted(legs, key=lambda i: legs[i].rank)
        assert [expected[i] for i in best_first] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-5)


def test_scores_follow_additions_changes_deletions_and_copies(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    idx = Index(tmp_path / "index", {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}})
    idx.run(corpus)
    assert_plain_bm25(idx)
    (corpus / "more.txt").write_text("Lever, lever, lever.\n\nA lever lifts oil and pumps.\n" * 9)
    (corpus / "guide.md").write_text("# Guide\n\nThe red pump is gone.\n")
    (corpus / "notes" / "crlf.txt").unlink()
    idx.run(corpus)
    assert_plain_bm25(idx)
    idx.run(corpus, rebuild=True)
    assert_plain_bm25(idx)


def test_declared_fields_weigh_what_the_config_says(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.md").write_text("---\ntags: [turbine, valve]\nyear: 1999\n---\n# Pumps\n\nOil and water.\n")
    (corpus / "b.md").write_text("---\ntags: [gasket]\n---\n# Seals\n\nA pumps and turbine text about oil.\n")
    found = {}
    for name, weights in {
        "none": {},
        "some": {"field_weights": {"tags": 5, "year": 1}},
    }.items():
        config = {
            **SMALL_CONFIG,
            "fields": {"tags": {"type": "keyword"}, "year": {"type": "integer"}},
            "embedder": {"type": "hashing", "dim": 32, "bm25": weights},
            "retrieval": {"mode": "sparse", "min_relevance": 0.0},
        }
        idx = Index(tmp_path / name, config)
        idx.run(corpus)
        for word in ("turbine", "1999"):
            candidates = idx.query(word).candidates
            found[name, word] = [c.source_id.rpartition("/")[2] for c in candidates]
    assert found == {
        ("none", "turbine"): ["b.md"],
        ("none", "1999"): [],
        ("some", "turbine"): ["a.md", "b.md"],
        ("some", "1999"): ["a.md"],
    }


GERMAN = "Die Pumpen werden mit Öl befüllt, und danach ist der Hebel zu drehen. Man wartet, bis es nicht mehr tropft."
ENGLISH = "The pumps are primed with oil, and after that the lever is turned. Wait until it does not drip any more."


def test_each_document_is_analysed_in_its_own_language(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "de.txt").write_text(GERMAN)
    (corpus / "en.txt").write_text(ENGLISH)
    config = {**SMALL_CONFIG, "chunker": {"type": "recursive", "max_tokens": 200}}
    idx = Index(tmp_path / "index", {**config, "retrieval": {"mode": "sparse", "min_relevance": 0.0}})
    idx.run(corpus)
    languages = {p["source_id"]: p["text_language"] for p in idx.content()["payloads"].values()}
    assert languages == {"corpus/de.txt": "de", "corpus/en.txt": "en"}

    def found(question: str) -> set[str]:
        return {c.source_id.removeprefix("corpus/") for c in idx.query(question).candidates}

    assert found("Wie werden sie befüllt? Befüllen!") == {"de.txt"}
    assert found("priming, dripping") == {"en.txt"}
    assert found("Pumpe") == {"de.txt", "en.txt"}  # stems may meet
    assert found("does it do what it was?") == set()
    assert_statistics(idx)
    (corpus / "de.txt").unlink()
    idx.run(corpus)
    left = [language_code(i) for kind, i, _ in idx.content()["frequencies"] if kind == LANGUAGE_COUNTS]
    assert left == ["en"]


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("quoting")
    corpus = folder / "corpus"
    corpus.mkdir()
    for i in range(150):
        (corpus / f"{i:03d}.txt").write_text(f"Lever pump. The lever of the pump and the pump of lever {i}.\n")
    (corpus / "exact.txt").write_text("A pump lever that nobody needs, and much else that is not asked for at all.\n")
    (corpus / "section.md").write_text("# To be or not\n\nNothing here.\n")
    idx = Index(folder, {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0, "top_k": 20, "rerank_k": 20}})
    idx.run(corpus)
    return idx


@pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
def test_a_quoted_phrase_must_be_there(quoting: Index, mode: str) -> None:
    idx = Index(quoting.directory, {**quoting.config, "retrieval": {**quoting.config["retrieval"], "mode": mode}})
    chain = idx.query('where is the "pump lever" of the pump?')
    assert [c.source_id for c in chain.candidates] == ["corpus/exact.txt"]
    assert set(chain.candidates[0].legs) == ({"dense", "sparse"} if mode == "hybrid" else {mode})
    assert [p.place.source_id for p in chain.passages] == ["corpus/exact.txt"]


def test_what_no_passage_holds_is_asked_for_as_words(quoting: Index) -> None:
    retrieval = {**quoting.config["retrieval"], "phrases": "ignore"}
    ignoring = Index(quoting.directory, {**quoting.config, "retrieval": retrieval})
    absent, present = '"lever pump lever"', '"pump lever"'
    found = [c.chunk_id for c in quoting.query(absent).candidates]
    assert len(found) >= 20
    assert found == [c.chunk_id for c in ignoring.query(absent).candidates]
    assert len(ignoring.query(present).candidates) >= 20
