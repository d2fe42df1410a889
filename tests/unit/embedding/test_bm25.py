from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.bm25 import Bm25Encoder, idf
from ragstack.embedding.term_index import term_index
from ragstack.embedding.terms import TermAnalyzer, fold_accents
from ragstack.errors import InputError
from ragstack.types import SparseVector

ENCODER = Bm25Encoder()
WORDS = st.lists(
    st.sampled_from(["cats", "cat", "dog", "dogs", "house", "running", "run", "x86-64", "E1234", "猫が好き", "the"])
)
ANY_TEXT = st.text(max_size=80)


def dot(first: SparseVector, second: SparseVector) -> float:
    right = dict(zip(second.indices.tolist(), second.values.tolist(), strict=True))
    pairs = zip(first.indices.tolist(), first.values.tolist(), strict=True)
    return sum(value * right.get(index, 0.0) for index, value in pairs)


def matches(passage: str, query: str, language: str | None = "english") -> bool:
    encoder = Bm25Encoder(language)
    return dot(encoder.encode_passage(passage), encoder.encode_query_terms(query)) > 0


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=8), WORDS.map(" ".join))
def test_dot_product_is_bm25(passages: list[str], query: str) -> None:
    encoder = Bm25Encoder(k1=1.5, b=0.6, nominal_length=7.0)
    analyzer = TermAnalyzer("english")
    bags = [Counter(analyzer.terms(passage)) for passage in passages]
    frequency = Counter(term for bag in bags for term in bag)
    by_index = {term_index(term): count for term, count in frequency.items()}
    vector = encoder.encode_query(query, by_index, len(passages))
    for passage, bag in zip(passages, bags, strict=True):
        length = sum(bag.values())
        expected = 0.0
        for term in analyzer.terms(query):
            tf, df = bag[term], frequency[term]
            weight = math.log(1 + (len(passages) - df + 0.5) / (df + 0.5))
            expected += weight * tf * 2.5 / (tf + 1.5 * (1 - 0.6 + 0.6 * length / 7.0))
        assert dot(vector, encoder.encode_passage(passage)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(WORDS, WORDS, WORDS, st.integers(0, 4), st.integers(1, 4))
def test_a_part_counts_as_often_as_it_weighs(
    text: list[str], headings: list[str], tags: list[str], heading_weight: int, tag_weight: int
) -> None:
    encoder = Bm25Encoder(heading_weight=heading_weight, field_weights={"tags": tag_weight})
    found = encoder.encode_chunk("\n".join(text), headings, {"tags": tags, "unweighted": ["house"]})
    repeated = [*text, *headings * heading_weight, *tags * tag_weight]
    plain = ENCODER.encode_chunk("\n".join(repeated), (), {})
    assert found.term_count == plain.term_count == len(TermAnalyzer("english").terms("\n".join(repeated)))
    assert found.vector.indices.tolist() == plain.vector.indices.tolist()
    assert found.vector.values.tolist() == plain.vector.values.tolist()


@pytest.mark.parametrize(
    ("value", "finds"), [("pump", True), (["a", "pump"], True), (7, True), (7.5, False), (True, False)]
)
def test_words_and_integers_of_fields_are_read(value: object, finds: bool) -> None:
    passage = Bm25Encoder(field_weights={"x": 1}).encode_chunk("", (), {"x": value})
    assert bool(set(ENCODER.term_ids("pump 7 7.5 true").tolist()) & set(passage.vector.indices.tolist())) == finds


@given(ANY_TEXT)
def test_vectors_are_sorted_unique_positive(text: str) -> None:
    for vector in (ENCODER.encode_passage(text), ENCODER.encode_query(text, {}, 0)):
        assert vector.indices.dtype == np.uint32 and vector.values.dtype == np.float32
        assert np.all(np.diff(vector.indices.astype(np.int64)) > 0)
        assert np.all(vector.values > 0) and np.all(np.isfinite(vector.values))
        assert vector.indices.tolist() == ENCODER.term_ids(text).tolist()


@given(ANY_TEXT, st.sampled_from(["english", "german", None]))
def test_a_text_is_found_by_itself_unless_it_has_no_terms(text: str, language: str | None) -> None:
    encoder = Bm25Encoder(language)
    found = dot(encoder.encode_passage(text), encoder.encode_query_terms(text)) > 0
    assert found == (len(encoder.term_ids(text)) > 0)


@given(ANY_TEXT)
def test_case_and_unicode_form_do_not_matter_to_plain_words(text: str) -> None:
    analyzer = TermAnalyzer(None)
    word = "".join(c for c in text if c.isalpha() and c.isascii())
    assert set(analyzer.terms(word.upper())) == {word.lower()} - {""}


def test_term_index_never_changes() -> None:
    assert [term_index(term) for term in ("ragstack", "", "猫")] == [3726504585, 634351890, 1190431910]


@pytest.mark.parametrize(
    ("passage", "query"),
    [
        ("connection failed with E1234 today", "e1234"),
        ("the x86-64 build", "x86-64"),
        ("the x86-64 build", "x86_64"),
        ("the x86-64 build", "x86"),
        ("call snake_case_name here", "snake"),
        ("call snake_case_name here", "snake_case_name"),
        ("version 3.5 is out", "3.5"),
        ("send an e-mail", "email"),
        ("interleukin IL-2 receptor", "IL2"),
        ("use HTTPServer and parseJson", "server json"),
        ("written in C++ and C#", "c++"),
        ("written in C++ and C#", "C#"),
        ("café au lait", "cafe"),
        ("cafe\u0301 au lait", "café"),
        ("ﬁne ｆｕｌｌ width", "fine full"),
        ("soft\u00adware zero\u200bwidth", "software zerowidth"),
        ("吾輩は猫である", "猫"),
        ("東京都の天気", "東京"),
        ("สวัสดีชาวโลก", "ชาวโลก"),
        ("한국어를 배웁니다", "한국어"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("the patient's heart", "patients"),
        ("running dogs", "dog runs"),
        ("https://example.org/a/path?x=1", "example.org"),
        ("user@mail.example.org wrote", "user"),
    ],
)
def test_finds(passage: str, query: str) -> None:
    assert matches(passage, query)


@pytest.mark.parametrize(
    ("passage", "query"),
    [("version 3.5", "35"), ("the cat", "the of and"), ("हिन्दी", "हन"), ("C++", "C#"), ("E1234", "E12345"), ("", "x")],
)
def test_does_not_find(passage: str, query: str) -> None:
    assert not matches(passage, query)


def test_stems_by_language() -> None:
    assert matches("Die Häuser der Stadt", "Haus", "german")
    assert not matches("die der und", "die", "german")
    assert matches("die der und", "die", None)
    assert not matches("running", "runs", None)


def test_compounds_are_found_by_their_beginning_where_they_are_one_word() -> None:
    assert matches("die Wasserversorgung", "Wasserleitungen", "german")
    assert matches("vattenförsörjning", "vattenledningar", "swedish")
    assert not matches("waterproof", "waterfall", "english")
    assert matches("die Wassermelone", "Wasser", "german")
    assert not matches("der Haustürschlüssel", "Haus", "german")  # too short to tell it from others


def test_accents_are_folded_for_latin_and_greek_only() -> None:
    assert fold_accents("ångström") == "angstrom"
    assert fold_accents("άλφα") == "αλφα"
    assert fold_accents("й") == "й"
    assert fold_accents("が") == "が"


def test_document_frequency_may_be_a_function() -> None:
    seen: list[int] = []

    def frequency(ids: object) -> list[int]:
        seen.extend(ids)  # type: ignore[arg-type]
        return [3] * len(seen)

    vector = ENCODER.encode_query("black cats", frequency, 10)
    assert seen == ENCODER.term_ids("black cats").tolist()
    assert vector.values.tolist() == pytest.approx([idf(3, 10)] * 2)
    with pytest.raises(ValueError, match="1 numbers for 2 terms"):
        ENCODER.encode_query("black cats", lambda ids: [1], 10)


def test_repeated_query_terms_count() -> None:
    vector = ENCODER.encode_query("cat cats dog", {}, 5)
    assert sorted(vector.values.tolist()) == pytest.approx([idf(0, 5), 2 * idf(0, 5)])


@pytest.mark.parametrize(("df", "count"), [(-1, 5), (6, 5)])
def test_refuses_impossible_statistics(df: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{df} of {count}"):
        idf(df, count)


@pytest.mark.parametrize("settings", [{"k1": 0.0}, {"b": 1.1}, {"nominal_length": 0.0}, {"k1": math.nan}])
def test_refuses_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="BM25 needs"):
        Bm25Encoder(**settings)  # type: ignore[arg-type]


def test_unknown_language_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'englisch'.*Did you mean 'english'\?"):
        Bm25Encoder("englisch")


def test_settings_change_the_fingerprint() -> None:
    assert Bm25Encoder(nominal_length=90).fingerprint != ENCODER.fingerprint
    assert Bm25Encoder().fingerprint == ENCODER.fingerprint
    json.dumps(ENCODER.fingerprint)


def test_scifact_quality(data_dir: Path) -> None:
    folder = data_dir / "scifact"
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    queries = {}
    for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        queries[str(row["_id"])] = row["text"]
    relevant: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        relevant[query].add(document)
    encoder = Bm25Encoder(nominal_length=110)
    names = np.array([str(document["_id"]) for document in documents])
    postings: dict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for row, document in enumerate(documents):
        vector = encoder.encode_passage(document["title"] + "\n" + document["text"])
        for index, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            postings[index][0].append(row)
            postings[index][1].append(value)
    frequency = {index: len(rows) for index, (rows, _) in postings.items()}
    gains = []
    for query, expected in relevant.items():
        scores = np.zeros(len(documents))
        vector = encoder.encode_query(queries[query], frequency, len(documents))
        for index, weight in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
            rows, values = postings.get(index, ([], []))
            scores[rows] += weight * np.array(values)
        top = names[np.argsort(-scores, kind="stable")[:10]]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(10, len(expected))))
        gains.append(sum(1 / math.log2(i + 2) for i, name in enumerate(top) if name in expected) / ideal)
    assert float(np.mean(gains)) >= 0.70  # 0.706 measured
