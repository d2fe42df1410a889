"""The citation chain, end to end: every link checkable, every forgery found."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.citations.chain import Chain, chain_digest
from ragstack.citations.verify import Finding, load_chain, verify_chain
from ragstack.errors import InputError
from ragstack.filters import Condition
from ragstack.retrieval.evidence import open_evidence
from tests.integration.harness import Index, write_corpus

QUESTION = "How is the pump primed and which lever is turned?"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Path, Chain]:
    """An index, its corpus, and a chain with an answer."""
    base = tmp_path_factory.mktemp("chain")
    corpus = base / "corpus"
    write_corpus(corpus)
    idx = Index(base / "index")
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    idx.run(corpus)
    chain = idx.query(QUESTION)
    assert chain.answer is not None
    assert chain.answer.citations
    return idx, corpus, chain


def verify(idx: Index, chain: Chain) -> list[Finding]:
    with open_evidence(idx.state_dir) as evidence:
        return verify_chain(chain, evidence)


def resealed(value: dict[str, Any]) -> Chain:
    """A chain from edited JSON whose digest fits again, as a careful forger would make it."""
    value["digest"] = chain_digest(value)
    return load_chain(json.dumps(value), "chain.json")


def test_every_citation_cut_from_the_raw_file_is_its_text(answered: tuple[Index, Path, Chain]) -> None:
    _, corpus, chain = answered
    assert chain.answer is not None
    for place in [p.place for p in chain.passages] + [c.place for c in chain.answer.citations]:
        raw = (corpus.parent / place.source_id).read_bytes()
        assert place.source_verbatim
        assert (
            "".join(raw[r.byte_start : r.byte_end].decode(place.source_encoding) for r in place.source_ranges)
            == place.text
        )
        line = raw[: place.source_ranges[0].byte_start].count(b"\n") + 1
        assert place.line_start == line


def test_links_lead_from_query_to_bytes(answered: tuple[Index, Path, Chain]) -> None:
    _, _, chain = answered
    assert chain.answer is not None
    candidates = {candidate.chunk_id for candidate in chain.candidates}
    for passage in chain.passages:
        assert set(passage.chunk_ids) <= candidates
    ids = {citation.citation_id for citation in chain.answer.citations}
    for sentence in chain.answer.sentences:
        assert set(sentence.citation_ids) <= ids
        assert chain.answer.text.encode()[sentence.byte_start : sentence.byte_end].decode() == sentence.text
    assert [c.fused_rank for c in chain.candidates] == list(range(1, len(chain.candidates) + 1))
    assert any(set(candidate.legs) == {"dense", "sparse"} for candidate in chain.candidates)
    assert {"embed", "retrieve", "rerank", "total"} <= chain.timings_s.keys()


def test_a_chain_survives_json(answered: tuple[Index, Path, Chain]) -> None:
    idx, _, chain = answered
    again = load_chain(json.dumps(chain.to_json(), indent=2), "chain.json")
    assert again == chain
    assert {finding.status for finding in verify(idx, again)} == {"verified"}


def test_sources_alone_suffice(answered: tuple[Index, Path, Chain], tmp_path: Path) -> None:
    _, _, chain = answered
    with open_evidence(tmp_path / "no-index-here") as evidence:
        assert {finding.status for finding in verify_chain(chain, evidence)} == {"verified"}


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "text": lambda c: c["answer"]["citations"][0]["place"].update(text="Something nobody wrote."),
    "range": lambda c: c["answer"]["citations"][0]["place"].update(
        byte_start=c["answer"]["citations"][0]["place"]["byte_start"] + 1
    ),
    "source range": lambda c: c["passages"][0]["place"]["source_ranges"][0].update(
        byte_end=c["passages"][0]["place"]["source_ranges"][0]["byte_end"] + 1
    ),
    "line": lambda c: c["passages"][0]["place"].update(line_start=1000),
    "encoding": lambda c: c["passages"][0]["place"].update(source_encoding="utf-16"),
    "verbatim": lambda c: c["passages"][0]["place"].update(source_verbatim=False),
    "chunk id": lambda c: c["passages"][0].update(chunk_ids=["00000000-0000-0000-0000-000000000000"]),
    "candidate": lambda c: c["candidates"][0].update(byte_end=c["candidates"][0]["byte_end"] + 1),
    "sentence": lambda c: c["answer"]["sentences"][0].update(text="The moon is made of cheese."),
    "dangling citation": lambda c: c["answer"]["sentences"][0].update(citation_ids=["nowhere"]),
    "past the end": lambda c: c["answer"]["citations"][0]["place"].update(byte_end=10**9),
    "said more": lambda c: c["answer"].update(text=c["answer"]["text"] + " And more."),
    "no sentences": lambda c: c["answer"].update(sentences=[]),
    "marker": lambda c: c["answer"]["citations"][0].update(marker=7),
    "generator": lambda c: (
        c["answer"].update(generator="other"),
        c["answer"]["sentences"][0].update(text="The moon is made of cheese."),
    ),
    "candidate twice": lambda c: c["candidates"].append(c["candidates"][0]),
    "candidate rank": lambda c: c["candidates"][0].update(fused_rank=99),
    "media type": lambda c: c["passages"][0]["place"].update(media_type="text/x-other"),
    "strange encoding": lambda c: c["passages"][0]["place"].update(source_encoding="a\0b"),
    "passage rank": lambda c: c["answer"]["citations"][0].update(passage_rank=99),
}


@pytest.mark.parametrize("name", EDITS)
def test_forged_chains_are_wrong(name: str, answered: tuple[Index, Path, Chain]) -> None:
    idx, _, chain = answered
    value = copy.deepcopy(chain.to_json())
    EDITS[name](value)
    findings = verify(idx, resealed(value))
    assert "wrong" in {finding.status for finding in findings}
    assert all(finding.detail for finding in findings)


def test_an_edit_without_a_new_digest_shows(answered: tuple[Index, Path, Chain]) -> None:
    idx, _, chain = answered
    value = chain.to_json()
    value["query"]["text"] = "Another question?"
    findings = verify(idx, load_chain(json.dumps(value), "chain.json"))
    assert [f.where for f in findings if f.status == "wrong"] == ["chain"]


def test_an_invented_version_is_unverifiable(answered: tuple[Index, Path, Chain]) -> None:
    idx, _, chain = answered
    value = copy.deepcopy(chain.to_json())
    for passage in value["passages"]:
        passage["place"]["source_version"] = "0" * 64
    statuses = {f.status for f in verify(idx, resealed(value)) if f.where.startswith("passage")}
    assert statuses <= {"unverifiable", "wrong"}
    assert "unverifiable" in statuses


def test_changed_and_missing_sources_are_told_from_wrong_citations(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    idx = Index(tmp_path / "index")
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    idx.run(corpus)
    chain = idx.query(QUESTION)
    cited = {passage.place.source_id for passage in chain.passages}
    assert "corpus/guide.md" in cited
    (corpus / "guide.md").write_text("Rewritten.")
    (corpus / "tool.py").unlink()
    before = {f.status for f in verify(idx, chain)}
    assert "source_changed" in before
    assert "wrong" not in before
    idx.run(corpus)
    after = verify(idx, chain)
    assert "wrong" not in {f.status for f in after}
    assert "unverifiable" not in {f.status for f in after}, "the ledger knows that the version was indexed"
    assert any("no longer kept" in f.detail for f in after)


def test_nothing_relevant_says_so(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    idx = Index(tmp_path / "index")
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.99}}
    idx.run(corpus)
    chain = idx.query("What do giraffes eat?")
    assert chain.passages == ()
    assert chain.answer is not None
    assert (chain.answer.text, chain.answer.citations) == ("", ())
    assert {f.status for f in verify(idx, chain)} == set()


def test_a_chain_that_names_a_device_does_not_hang(answered: tuple[Index, Path, Chain]) -> None:
    idx, _, chain = answered
    value = copy.deepcopy(chain.to_json())
    for passage in value["passages"]:
        passage["place"].update(source_uri="file:///dev/zero", source_id="elsewhere/zero", source_version="1" * 64)
    assert {f.status for f in verify(idx, resealed(value)) if f.where.startswith("passage")} <= {
        "unverifiable",
        "wrong",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.text(max_size=200)
    | JSON.map(json.dumps)
    | JSON.map(lambda v: json.dumps({"format": "ragstack.chain/1", "query": v}))
)
def test_garbage_is_one_clear_error(text: str) -> None:
    with pytest.raises(InputError):
        load_chain(text, "garbage.json")


@settings(max_examples=60)
@given(st.data())
def test_random_edits_never_crash(answered: tuple[Index, Path, Chain], data: st.DataObject) -> None:
    idx, _, chain = answered
    value = chain.to_json()
    node: Any = value
    for _ in range(data.draw(st.integers(1, 6))):
        if not isinstance(node, (dict, list)) or not node:
            break
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if data.draw(st.booleans()) or not isinstance(node[key], (dict, list)):
            node[key] = data.draw(JSON)
            break
        node = node[key]
    try:
        edited = load_chain(json.dumps(value), "chain.json")
    except InputError:
        return
    findings = verify(idx, edited)
    if edited != chain:
        assert "verified" not in {f.status for f in findings if f.where == "chain"}
        assert any(f.status != "verified" for f in findings)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(InputError, match="not JSON"):
        load_chain("[" * 200_000, "deep.json")


def test_unreadable_names_survive(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows names are Unicode")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9 #1%.txt")).write_text("The espresso pump is primed at nine bar.")
    idx = Index(tmp_path / "index")
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    idx.run(corpus)
    chain = idx.query("espresso pump")
    assert chain.passages[0].place.source_id == "corpus/caf%E9 #1%.txt"
    assert {f.status for f in verify(idx, chain)} == {"verified"}
    json.dumps(chain.to_json()).encode()


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
@pytest.mark.parametrize("fusion", ["rrf", "weighted"])
def test_every_mode_and_fusion(mode: str, fusion: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    idx = Index(tmp_path / "index")
    idx.config = {**idx.config, "retrieval": {"mode": mode, "fusion": {"type": fusion}, "min_relevance": 0.0}}
    idx.run(corpus)
    chain = idx.query("How is the pump primed?")
    legs = {leg for candidate in chain.candidates for leg in candidate.legs}
    assert legs == ({"dense", "sparse"} if mode == "hybrid" else {mode})
    assert chain.passages[0].place.source_id == "corpus/guide.md"
    assert {finding.status for finding in verify(idx, chain)} == {"verified"}


def test_a_language_without_spaces_is_answered_in(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "j.txt").write_text("東京タワーの高さは333メートルです。")
    (corpus / "a.txt").write_text("The loquat festival is in May. It draws crowds.")
    idx = Index(tmp_path / "index")
    # The hashing embedder sees words alone, and here one question is one word.
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.05}}
    idx.run(corpus)
    chain = idx.query("東京タワーの高さは")
    assert chain.answer is not None
    assert chain.answer.text == "東京タワーの高さは333メートルです。 [1]"


def test_equal_bytes_under_two_names_keep_their_media_types(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("x.js", "x.py", "x.txt"):
        (corpus / name).write_text("prime = pump.oil\n")
    idx = Index(tmp_path / "index")
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0}}
    idx.run(corpus)
    for name, media_type in (("x.js", "text/javascript"), ("x.py", "text/x-python"), ("x.txt", "text/plain")):
        chain = idx.query("prime pump", filter=Condition("source_id", "eq", f"corpus/{name}"))
        assert [p.place.media_type for p in chain.passages] == [media_type]
        assert {finding.status for finding in verify(idx, chain)} == {"verified"}


def test_an_intact_file_elsewhere_is_found_by_its_uri(answered: tuple[Index, Path, Chain], tmp_path: Path) -> None:
    _, _, chain = answered
    other = tmp_path / "corpus"
    other.mkdir()
    (other / "guide.md").write_text("Another project with a root of the same name.")
    idx = Index(tmp_path / "index")
    idx.run(other)
    assert {finding.status for finding in verify(idx, chain)} == {"verified"}
