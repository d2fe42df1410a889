"""Every reason why an expected passage is not in an answer, told over a real index."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ragstack
from ragstack.adapters.base import Hit, HybridHits, SearchParams, VectorStore
from ragstack.assembly import SharedIndex
from ragstack.config.models import PipelineConfig
from ragstack.errors import InputError
from ragstack.retrieval.engine import QueryEngine, QueryRequest
from ragstack.retrieval.explain.explanation import Explanation
from tests.integration.harness import SMALL_CONFIG

_QUESTION = "How is the pump of line seven primed?"
_WORDS = [
    *(
        "pump",
        "line",
        "seven",
        "valve",
        "gasket",
        "oil",
        "lever",
        "lamp",
        "pressure",
        "bar",
        "night",
        "shift",
        "kelvin",
    ),
    *("sensor", "filter", "drum", "motor", "belt", "gear", "coolant", "spindle", "chuck", "anvil", "hammer", "rivet"),
    *("flange", "nozzle", "piston", "crank", "cam", "shaft", "bearing", "seal", "ring"),
]
_RETRIEVAL = {"top_k": 12, "rerank_k": 6, "top_n": 3, "min_relevance": 0.0}


def _config(**retrieval: Any) -> dict[str, Any]:
    return {
        **SMALL_CONFIG,
        "fields": {"year": {"type": "integer"}},
        "sources": {"max_file_bytes": 4000, "exclude": ["*.bak", "drafts/"]},
        "retrieval": {**_RETRIEVAL, **retrieval},
    }


def _write(root: Path) -> None:
    (root / "drafts").mkdir(parents=True)
    words = random.Random(5)
    for number in range(40):
        (root / f"note{number:02}.txt").write_text(" ".join(words.choices(_WORDS, k=14)) + ".\n")
    (root / "pump.md").write_text(
        "---\nyear: 1999\n---\n\n# Pumps\n\nThe pump of line seven is primed with oil.\n\n"
        "## Lamps\n\nA lamp is lit at night.\n\n\n"
    )
    (root / "twin_a.txt").write_text("Quaint doors are oiled at dawn; pumps never.\n")
    (root / "twin_b.txt").write_text("Quaint doors are  oiled at dawn; pumps never.\n")
    (root / "far.txt").write_text("Zebras graze; giraffes browse.\n")
    (root / "old.bak").write_text("The pump of line seven is primed with tar.\n")
    (root / "drafts" / "new.txt").write_text("The pump of line seven is primed with wax.\n")
    (root / ".gitignore").write_text("*.tmp\n!kept.tmp\n")
    (root / "a.tmp").write_text("The pump of line seven is primed with soap.\n")
    (root / "kept.tmp").write_text("Soap is kept in the attic of the annex.\n")
    (root / "large.txt").write_text("pump " * 1000)
    (root / "empty.txt").write_bytes(b"")
    (root / "picture.bin").write_bytes(bytes(range(256)) * 4)
    (root / "broken.md").write_text("---\nyear: soon\n---\n\nThe pump is broken.\n")
    (root.parent / "outside.txt").write_text("Nobody indexed this.\n")
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "alias.txt").symlink_to(root / "far.txt")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explain") / "corpus"
    _write(root)
    return root


@pytest.fixture(scope="module")
def pipeline(corpus: Path) -> Iterator[ragstack.Pipeline]:
    with ragstack.open(_config(), state_dir=corpus.parent / "state") as opened:
        report = opened.index(corpus)
        assert [Path(failed.path).name for failed in report.failed] == ["broken.md"]
        (corpus / "later.txt").write_text("Written after the run.\n")
        yield opened


def _told(explanation: Explanation) -> str:
    steps = " ".join(step.detail for step in explanation.steps)
    return f"{steps} {' '.join(advice.detail for advice in explanation.advice)}"


def _asked_again(pipeline: ragstack.Pipeline, text: str, settings: dict[str, Any]) -> Any:
    """The chain that the index gives with other settings of the block retrieval."""
    block = {**_RETRIEVAL, **{key.removeprefix("retrieval."): value for key, value in settings.items()}}
    config = PipelineConfig.model_validate({**pipeline.config.model_dump(), "retrieval": block})
    with QueryEngine(config, pipeline.state_dir, pipeline.shared, pipeline.embedder) as engine:
        return engine.query(QueryRequest(text))


# -- where it was lost ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "outcome", "words"),
    [
        ("old.bak", "not_a_source", "sources.exclude names '*.bak'"),
        ("drafts/new.txt:1", "not_a_source", "drafts is left out: sources.exclude names 'drafts/'"),
        ("a.tmp", "not_a_source", ".gitignore names '*.tmp'"),
        ("link.txt", "not_a_source", "is a symbolic link"),
        ("large.txt", "not_a_source", "more than sources.max_file_bytes (4,000)"),
        ("empty.txt", "not_a_source", "it holds no text"),
        ("picture.bin", "not_a_source", "its bytes are no text"),
        ("drafts", "not_a_source", "is a folder"),
        ("nowhere.md", "not_a_source", "There is no file"),
        ("../outside.txt", "not_a_source", "lies outside of what is indexed"),
        ("broken.md", "not_indexed", "could not be read by the last run"),
        ("later.txt:1", "not_indexed", "no run has read it"),
        ("pump.md:2", "no_chunk", "front matter"),
        ("pump.md:13", "no_chunk", "blank"),
        ("far.txt", "not_retrieved", "beyond top_k 12"),
        ("alias.txt", "not_retrieved", "corpus/far.txt is indexed"),
    ],
)
def test_reasons(pipeline: ragstack.Pipeline, corpus: Path, expected: str, outcome: str, words: str) -> None:
    explanation = pipeline.explain(_QUESTION, str(corpus / expected))
    assert explanation.outcome == outcome, explanation.steps
    assert words in _told(explanation)
    assert [step.outcome for step in explanation.steps] == ["passed"] * (len(explanation.steps) - 1) + ["lost"]
    assert explanation.chain.passages, "the query was answered all the same"


def test_an_unknown_name_is_answered_with_near_ones(pipeline: ragstack.Pipeline) -> None:
    explanation = pipeline.explain(_QUESTION, "corpus/pumps.md")
    assert explanation.outcome == "not_a_source"
    assert "corpus/pump.md" in explanation.advice[0].detail


def test_a_cited_passage(pipeline: ragstack.Pipeline, corpus: Path) -> None:
    by_path = pipeline.explain(_QUESTION, f"{corpus}/pump.md:7")
    assert by_path.outcome == "cited"
    assert by_path.expected is not None
    assert (by_path.expected.line_start, by_path.expected.line_end, by_path.expected.chunk_count) == (7, 7, 1)
    best = by_path.chunks[0]
    assert best.expected
    assert best.sentences
    assert best.passage_rank == 1
    same = [
        pipeline.explain(_QUESTION, written).chunks[0].chunk_id
        for written in (
            "corpus/pump.md:7",
            "id:corpus/pump.md:7-7",
            f"corpus/pump.md@{by_path.expected.byte_start}-{by_path.expected.byte_end}",
            best.chunk_id,
            "corpus/pump.md",
        )
    ]
    assert same == [best.chunk_id] * 5


def test_a_quoted_text_is_looked_for(pipeline: ragstack.Pipeline) -> None:
    found = pipeline.explain(_QUESTION, '"a lamp is lit"')
    assert found.expected is not None
    assert (found.expected.source_id, found.expected.line_start) == ("corpus/pump.md", 11)
    unquoted = pipeline.explain(_QUESTION, "giraffes browse")
    assert unquoted.expected is not None
    assert unquoted.expected.source_id == "corpus/far.txt"
    everywhere = pipeline.explain(_QUESTION, "text:are oiled at dawn")
    assert "It occurs in 2 places." in _told(everywhere)
    nowhere = pipeline.explain(_QUESTION, "the lamp is a zebra")
    assert nowhere.outcome == "text_not_found"
    assert "word for word" in nowhere.summary


def test_the_words_of_a_chunk_say_what_is_lacking(pipeline: ragstack.Pipeline) -> None:
    explanation = pipeline.explain("How many quaggas graze at the pump?", "corpus/far.txt", with_answer=False)
    words = {word.text: word for word in explanation.words}
    chunk_id = explanation.chunks[0].chunk_id
    assert words["quaggas"].chunk_count == 0
    assert words["graze"].chunk_count == 1
    assert words["the"].terms == ()
    assert words["the"].chunk_count is None
    graze = words["graze"].chunks[chunk_id]
    assert graze.sparse > 0
    assert graze.similarity == pytest.approx(1, abs=1e-4)
    assert graze.nearest == "graze"
    sparse = explanation.chunks[0].legs["sparse"]
    assert sum(word.chunks[chunk_id].sparse for word in explanation.words) == pytest.approx(sparse.score, rel=1e-5)
    assert "'quaggas' occurs nowhere in the index" in _told(explanation)


def test_a_filter_that_keeps_it_out_is_named_with_the_value(pipeline: ragstack.Pipeline) -> None:
    wanted = {
        "and": [{"field": "year", "op": "gte", "value": 2010}, {"field": "source_id", "op": "exists", "value": True}]
    }
    explanation = pipeline.explain(_QUESTION, "corpus/pump.md:7", filter=wanted)
    assert explanation.outcome == "filtered"
    (check,) = explanation.chunks[0].filtered_by
    assert (check.origin, check.condition["field"], check.found) == ("query", "year", 1999)
    assert explanation.chunks[0].legs["sparse"].rank is not None, "its rank without the filter is told"
    missing = pipeline.explain(_QUESTION, "corpus/far.txt", filter=wanted)
    assert missing.chunks[0].filtered_by[0].found is None


def test_a_quoted_phrase_that_it_lacks_is_named(pipeline: ragstack.Pipeline) -> None:
    explanation = pipeline.explain('Which pump is "primed with oil"?', "corpus/far.txt")
    assert explanation.outcome == "lacks_phrase"
    assert '"primed with oil"' in _told(explanation)
    assert explanation.chunks[0].legs["dense"].rank is not None, "its rank without the quotation marks is told"
    assert pipeline.explain('Which pump is "primed with oil"?', "corpus/pump.md:7").outcome == "cited"


def test_repetitions_name_their_twin(pipeline: ragstack.Pipeline) -> None:
    pair = [pipeline.explain("When are quaint doors oiled?", f"corpus/twin_{name}.txt:1") for name in "ab"]
    (lost,) = [told for told in pair if told.outcome == "duplicate"]
    (kept,) = [told for told in pair if told.outcome == "cited"]
    assert lost.chunks[0].duplicate_of == kept.chunks[0].chunk_id
    assert "which is passage 1" in _told(lost)


def test_without_an_expected_passage_what_was_found_is_told(pipeline: ragstack.Pipeline) -> None:
    explanation = pipeline.explain(_QUESTION)
    assert (explanation.expected, explanation.outcome, explanation.steps) == (None, None, ())
    ranks = [chunk.passage_rank for chunk in explanation.chunks]
    assert ranks[:3] == [1, 2, 3]
    near = explanation.chunks[3:]
    assert [chunk.reranked for chunk in near] == [True, True, True, False, False, False]
    assert all(chunk.passage_rank is None for chunk in near)
    assert Explanation.model_validate_json(json.dumps(explanation.to_json())) == explanation


def test_a_place_that_is_not_there_is_a_mistake(pipeline: ragstack.Pipeline) -> None:
    for expected in ("corpus/far.txt:99", "corpus/far.txt@5-9000"):
        with pytest.raises(InputError):
            pipeline.explain(_QUESTION, expected)


_NAMES = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Zs", "Lu"]), min_size=1, max_size=12),
    st.sampled_from(
        ["~nobody/x", "id:", "id:../..", "a\0b", "/", ".", "..", "x" * 5000, "corpus/", "#1", "corpus/far.txt#1"]
    ),
)
_SUFFIXES = st.sampled_from(["", ":1", ":1-2", "@0-4", ":x", "@1", ":0", '"'])


@settings(max_examples=80)
@given(_NAMES, _SUFFIXES)
def test_whatever_is_expected_is_explained_or_a_mistake(pipeline: ragstack.Pipeline, name: str, suffix: str) -> None:
    try:
        explanation = pipeline.explain(_QUESTION, name + suffix, with_answer=False)
    except InputError:
        return
    assert Explanation.model_validate_json(json.dumps(explanation.to_json())) == explanation


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    name = os.fsdecode(b"caf\xe9.txt")
    (root / name).write_text("The pump is primed.\n")
    with ragstack.open(_config(), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(root)
        found = pipeline.explain("Is the pump primed?", f"{root}/{name}:1", with_answer=False)
        assert found.expected is not None
        assert found.expected.source_id == "corpus/caf%E9.txt"
        assert pipeline.explain("Is it?", "corpus/caf%E9.txt", with_answer=False).outcome == "not_cited"


# -- figures agree with queries ------------------------------------------------------------------

_QUESTIONS = [_QUESTION, "Which bearing has a worn ring?", "lamp night oil shift", "zebra crank"]


@pytest.mark.parametrize("text", _QUESTIONS)
def test_ranks_are_those_of_a_query_with_a_huge_top_k(pipeline: ragstack.Pipeline, text: str) -> None:
    deep = _asked_again(pipeline, text, {"top_k": 10_000})
    legs = {candidate.chunk_id: candidate.legs for candidate in deep.candidates}
    assert len(legs) > 40
    for chunk_id, found in legs.items():
        explained = pipeline.explain(text, chunk_id, with_answer=False).chunks[0]
        assert explained.chunk_id == chunk_id
        for leg in ("dense", "sparse"):
            expected = found[leg].rank if leg in found else None
            assert explained.legs[leg].rank == expected, (leg, chunk_id)
            if expected is not None:
                assert explained.legs[leg].score == pytest.approx(found[leg].score, abs=1e-4)
            assert explained.legs[leg].returned == (expected is not None and expected <= _RETRIEVAL["top_k"])


@pytest.mark.parametrize("text", _QUESTIONS)
def test_what_would_have_changed_the_outcome_does(pipeline: ragstack.Pipeline, text: str) -> None:
    deep = _asked_again(pipeline, text, {"top_k": 10_000})
    seen = set()
    for candidate in deep.candidates:
        explanation = pipeline.explain(text, candidate.chunk_id)
        for advice in explanation.advice:
            if not advice.settings:
                continue
            seen.add(explanation.outcome)
            chain = _asked_again(pipeline, text, advice.settings)
            ids = [found.chunk_id for found in chain.candidates][: chain.query.rerank_k]
            assert candidate.chunk_id in ids, advice
            if explanation.outcome == "below_top_n":
                assert any(candidate.chunk_id in passage.chunk_ids for passage in chain.passages)
    assert {"not_reranked", "not_retrieved", "below_top_n"} <= seen


def test_the_mildest_settings_are_named(pipeline: ragstack.Pipeline) -> None:
    chain = pipeline.query(_QUESTION).chain
    next_one = chain.candidates[chain.query.rerank_k]
    explanation = pipeline.explain(_QUESTION, next_one.chunk_id)
    assert explanation.outcome == "not_reranked"
    assert explanation.advice[0].settings == {"retrieval.rerank_k": 7}


# -- relevance, legs, answers --------------------------------------------------------------------


def _explained_with(pipeline: ragstack.Pipeline, block: dict[str, Any], expected: str, **options: Any) -> Explanation:
    """An explanation by the same index with another config."""
    config = PipelineConfig.model_validate({**pipeline.config.model_dump(), **block})
    other = ragstack.open(config, state_dir=pipeline.state_dir)
    other._shared, other._embedder = pipeline.shared, pipeline.embedder  # the embedded store is open once
    with other:
        return other.explain(_QUESTION, expected, **options)


def test_nothing_relevant(pipeline: ragstack.Pipeline) -> None:
    explanation = _explained_with(pipeline, {"retrieval": {**_RETRIEVAL, "min_relevance": 1.0}}, "corpus/pump.md:7")
    assert explanation.outcome == "not_relevant"
    (advice,) = [advice for advice in explanation.advice if advice.settings]
    lower = _asked_again(pipeline, _QUESTION, advice.settings)
    assert any("corpus/pump.md" in passage.place.source_id for passage in lower.passages) or "though" in advice.detail


def test_a_passage_below_min_relevance_is_shown_and_not_cited(pipeline: ragstack.Pipeline) -> None:
    chain = pipeline.query(_QUESTION).chain
    last = chain.passages[-1]
    bar = (chain.passages[0].relevance + last.relevance) / 2
    retrieval = {**_RETRIEVAL, "min_relevance": bar}
    explanation = _explained_with(pipeline, {"retrieval": retrieval}, last.chunk_ids[0])
    assert explanation.outcome == "not_cited"
    assert "The answer rests on passages of relevance" in _told(explanation)
    unasked = pipeline.explain(_QUESTION, last.chunk_ids[0], with_answer=False)
    assert "No answer was asked for." in _told(unasked)


def test_a_leg_that_is_not_searched_is_told_of(pipeline: ragstack.Pipeline) -> None:
    block = {"retrieval": {**_RETRIEVAL, "mode": "sparse"}}
    explanation = _explained_with(pipeline, block, "corpus/far.txt")
    assert explanation.outcome == "not_retrieved"
    assert not explanation.chunks[0].legs["dense"].searched
    assert "retrieval.mode leaves this leg out" in _told(explanation)


def test_the_configs_filter_is_told_apart(pipeline: ragstack.Pipeline) -> None:
    wanted = {"field": "year", "op": "eq", "value": 2020}
    explanation = _explained_with(pipeline, {"retrieval": {**_RETRIEVAL, "filter": wanted}}, "corpus/pump.md:7")
    assert explanation.outcome == "filtered"
    assert explanation.chunks[0].filtered_by[0].origin == "config"
    assert "the config's retrieval.filter asks for" in _told(explanation).replace("The", "the")


# -- the file has changed ------------------------------------------------------------------------


def test_a_line_that_moved_is_found_again(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    file = root / "guide.txt"
    file.write_text("The pump is primed.\n\nThe lamp goes out.\n")
    with ragstack.open(_config(), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(root)
        file.write_text("A new first line.\n\nThe pump is primed.\n\nThe lamp goes out.\n")
        os.utime(file, (1, 1))
        moved = pipeline.explain("Does the lamp go out?", f"{file}:5")
        assert moved.outcome == "cited"
        assert moved.expected is not None
        assert moved.expected.line_start == 3
        assert "has changed since it was indexed" in _told(moved)
        assert "in line 3" in _told(moved)
        new = pipeline.explain("Does the lamp go out?", f"{file}:1")
        assert new.outcome == "not_indexed"
        assert "is new" in _told(new)
        file.unlink()
        gone = pipeline.explain("Does the lamp go out?", "corpus/guide.txt:3")
        assert gone.outcome == "cited"


def test_a_version_that_could_not_be_read_is_told_of(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    file = root / "memo.md"
    file.write_text("---\nyear: 2001\n---\n\nThe pump is primed.\n")
    with ragstack.open(_config(), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(root)
        file.write_text("---\nyear: never\n---\n\nThe pump is primed.\n")
        assert pipeline.index(root).failed
        explanation = pipeline.explain("Is the pump primed?", str(file))
        assert explanation.outcome == "cited"
        assert "The last run could not read it as it is now" in _told(explanation)


# -- overlaps, and an approximate search ---------------------------------------------------------


def test_a_chunk_that_a_passage_has_swallowed(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    sentences = [f"Part {number} of the engine is greased with {word}." for number, word in enumerate(_WORDS[:12])]
    (root / "long.txt").write_text(" ".join(sentences) + "\n")
    config = {**_config(), "chunker": {"type": "recursive", "max_tokens": 24, "overlap_tokens": 12}}
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(root)
        chain = pipeline.query("Which part is greased with oil?").chain
        (wide,) = [passage for passage in chain.passages if len(passage.chunk_ids) > 1][:1]
        explanation = pipeline.explain("Which part is greased with oil?", wide.chunk_ids[1])
        assert explanation.outcome in ("cited", "not_cited")
        assert f"is part of passage {wide.rank}" in _told(explanation)


class _Forgetful:
    """The real store, whose approximate search never finds one chunk, as that of a graph may."""

    def __init__(self, store: VectorStore, chunk_id: str) -> None:
        self._store, self._chunk_id = store, chunk_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def search_dense(self, *args: Any, params: SearchParams, **options: Any) -> list[Hit]:
        hits = self._store.search_dense(*args, params=params, **options)
        return hits if params.exact else [hit for hit in hits if hit.id != self._chunk_id]

    def search_hybrid(self, *args: Any, params: SearchParams, **options: Any) -> HybridHits:
        hits = self._store.search_hybrid(*args, params=params, **options)
        kept = [hit for hit in hits.dense if hit.id != self._chunk_id]
        return HybridHits(hits.dense if params.exact else kept, hits.sparse)


def test_a_miss_of_the_approximate_search_is_told_apart(pipeline: ragstack.Pipeline) -> None:
    text = "zq xk"  # no word of the corpus, so the dense leg is alone
    nearest = pipeline.query(text).chain.candidates[0].chunk_id
    other = ragstack.open(pipeline.config, state_dir=pipeline.state_dir)
    store: Any = _Forgetful(pipeline.shared.store, nearest)
    other._shared, other._embedder = SharedIndex(store, pipeline.shared.pins), pipeline.embedder
    with other:
        explanation = other.explain(text, nearest)
    assert explanation.outcome == "missed_by_search"
    assert explanation.chunks[0].legs["dense"].rank == 1
    assert explanation.advice[0].settings == {"store.exact": True}
