"""Passages with their context, end to end: what is added, merged and named, every byte checkable."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ragstack.citations.chain import Chain
from ragstack.citations.verify import verify_chain
from ragstack.retrieval.evidence import open_evidence
from tests.integration.harness import Index
from tests.integration.test_chain import resealed

SECTIONS = {
    "Pump": ["The pump is primed with oil every spring.", "Its seal is made of brass.", "It stands in the cellar."],
    "Lamp": ["The lamp is lit at dusk.", "Its wick is trimmed on Mondays."],
}
MANUAL = "\n\n".join(f"## {title}\n\n" + "\n\n".join(parts) for title, parts in SECTIONS.items()) + "\n"


def made(directory: Path, files: dict[str, str], max_tokens: int = 24) -> Index:
    corpus = directory / "corpus"
    corpus.mkdir()
    for name, text in files.items():
        (corpus / name).write_text(text, encoding="utf-8", newline="")
    idx = Index(directory / "index")
    idx.config = {
        **idx.config,
        "chunker": {"type": "auto", "max_tokens": max_tokens},
    }
    idx.run(corpus)
    return idx


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of one manual with two sections, each of several chunks."""
    return made(tmp_path_factory.mktemp("manual"), {"manual.md": MANUAL}, max_tokens=12)


def asked(idx: Index, text: str, **retrieval: Any) -> Chain:
    idx = copy.copy(idx)
    idx.config = {**idx.config, "retrieval": {"min_relevance": 0.0, **retrieval}}
    chain = idx.query(text)
    with open_evidence(idx.state_dir) as evidence:
        assert {finding.status for finding in verify_chain(chain, evidence)} == {"verified"}
    return chain


def test_a_section_grows_to_its_heading_and_no_further(manual: Index) -> None:
    alone = asked(manual, "What is the seal made of?", top_n=1).passages[0]
    assert alone.place.text == "Its seal is made of brass." and not alone.added
    chain = asked(manual, "What is the seal made of?", top_n=1, expand="section")
    passage = chain.passages[0]
    assert passage.chunk_ids[0] == alone.chunk_ids[0]
    assert passage.place.text.split() == f"## Pump {' '.join(SECTIONS['Pump'])}".split()
    assert "Lamp" not in passage.place.text
    hit = next(c for c in chain.candidates if c.chunk_id == passage.chunk_ids[0])
    assert all(each.byte_end <= hit.byte_start or hit.byte_end <= each.byte_start for each in passage.added)
    assert chain.query.expand == "section"


def test_neighbours_cross_headings_and_keep_to_the_budget(manual: Index) -> None:
    passage = asked(manual, "Where does the pump stand in the cellar?", top_n=1, expand="neighbours").passages[0]
    assert passage.place.text.strip() == MANUAL.strip()
    small = asked(manual, "Where does the pump stand?", top_n=1, expand="neighbours", expand_tokens=20).passages[0]
    assert 0 < len(small.added) < len(passage.added)


def test_passages_grow_without_sharing_a_byte(manual: Index) -> None:
    chain = asked(manual, "What is lit, and what is primed?", top_n=8, expand="neighbours", expand_tokens=30)
    ranges = sorted((p.place.byte_start, p.place.byte_end) for p in chain.passages)
    assert len(ranges) > 1
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))


def test_an_answer_may_quote_what_was_added_under_its_own_heading(manual: Index) -> None:
    chain = asked(manual, "trimmed on Mondays; lamp is lit at dusk", top_n=1, expand="neighbours")
    assert chain.answer is not None
    (passage,) = chain.passages
    hits = {c.chunk_id: c for c in chain.candidates}
    cited = [citation.place for citation in chain.answer.citations]
    hit = hits[passage.chunk_ids[0]]
    assert any(not (hit.byte_start <= place.byte_start < hit.byte_end) for place in cited)
    for place in cited:
        assert place.text in MANUAL
        assert place.heading_path == (("Lamp",) if MANUAL.index(place.text) > MANUAL.index("## Lamp") else ("Pump",))


def test_copies_take_one_place_and_are_named(tmp_path: Path) -> None:
    text = "The pump is primed with oil every spring.\n"
    files = {"a.txt": text, "b.txt": text.upper(), "c.txt": "Printed on 2024-05-03\n" + text}
    idx = made(tmp_path, {**files, "d.txt": text.replace("spring", "autumn")})
    chain = asked(idx, "How is the pump primed?")
    shown = {passage.place.source_id: passage for passage in chain.passages}
    assert len(shown) == 2 and "corpus/d.txt" in shown
    (other,) = [passage for name, passage in shown.items() if name != "corpus/d.txt"]
    names = {duplicate.place.source_id for duplicate in other.duplicates} | {other.place.source_id}
    assert names == {"corpus/a.txt", "corpus/b.txt", "corpus/c.txt"}


def test_mmr_shows_something_new_before_a_variation(tmp_path: Path) -> None:
    files = {
        "a.txt": "The pump is primed with oil every spring, says the manual.\n",
        "b.txt": "The pump is primed with oil every spring, says the leaflet.\n",
        "c.txt": "Oil for the pump costs nine crowns.\n",
        "d.txt": "The lamp is lit at dusk.\n",
    }
    idx = made(tmp_path, files)
    by_score = [p.place.source_id for p in asked(idx, "pump primed with oil", top_n=2).passages]
    diverse = [p.place.source_id for p in asked(idx, "pump primed with oil", top_n=2, mmr_lambda=0.3).passages]
    assert set(by_score) == {"corpus/a.txt", "corpus/b.txt"}
    assert diverse == [by_score[0], "corpus/c.txt"]


FORGERIES = {
    "an added range": lambda c: c["passages"][0]["added"][0].update(
        byte_start=c["passages"][0]["added"][0]["byte_start"] + 1
    ),
    "an added id": lambda c: c["passages"][0]["added"][0].update(chunk_id="00000000-0000-0000-0000-000000000000"),
    "an added chunk left out": lambda c: c["passages"][0].update(added=[]),
    "a duplicate that is none": lambda c: c["passages"][0].update(
        duplicates=[{"chunk_id": c["passages"][0]["chunk_ids"][0], "place": {**c["passages"][0]["place"]}}]
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_context_is_found(manual: Index, forgery: str) -> None:
    value = asked(manual, "What is the seal made of?", top_n=1, expand="section").to_json()
    FORGERIES[forgery](value)
    with open_evidence(manual.state_dir) as evidence:
        assert "wrong" in {finding.status for finding in verify_chain(resealed(value), evidence)}
