from __future__ import annotations

import pytest
import Stemmer

from ragstack.config.embedders import StemmerLanguage
from ragstack.embedding.stop_words import STEMMERS, STOP_WORDS, stop_words_of
from ragstack.embedding.term_index import term_index
from ragstack.embedding.term_languages import TermLanguages
from ragstack.languages import NAMES

AUTO = TermLanguages("auto", "english")


def indices(*terms: str) -> set[int]:
    return {term_index(term) for term in terms}


def test_every_stemmer_can_be_chosen_and_loaded() -> None:
    named = set(StemmerLanguage.__args__)  # type: ignore[attr-defined]
    assert set(STEMMERS.values()) == named
    assert named <= set(Stemmer.algorithms())
    assert set(STOP_WORDS) == named


@pytest.mark.parametrize("code", sorted(NAMES.keys() & STEMMERS.keys()))
def test_a_language_with_a_stemmer_has_stop_words(code: str) -> None:
    words = stop_words_of(code)
    assert len(words) >= 15
    assert words == {word.casefold() for word in words}


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "The pumps", {"pump"}),
        ("de", "Die Häuser", {"haus", "hause*"}),
        ("es", "Las bombas", {"bomb"}),
        ("", "The pumps", {"pump"}),  # the fallback
        ("vi", "bơm", {"bơm"}),  # no stemmer: the marks of Latin letters are dropped all the same
        ("ja", "猫が", {"猫", "が", "猫が"}),
    ],
)
def test_a_text_is_analysed_in_its_language(language: str, text: str, terms: set[str]) -> None:
    found = set(AUTO.of_text(language).count(text))
    assert found == indices(*({"bom"} if language == "vi" else terms))


def test_a_language_has_the_same_analysis_whether_set_or_detected() -> None:
    for code, stemmer in STEMMERS.items():
        fixed, found = TermLanguages(stemmer, None).of_text(""), AUTO.of_text(code)
        assert fixed.analyzer.stop_words == found.analyzer.stop_words
        assert fixed.analyzer.language == found.analyzer.language == stemmer


def test_one_language_for_all_does_not_ask() -> None:
    german = TermLanguages("german", "english")
    assert german.of_text("en") is german.of_text("de") is german.of_text("")
    assert set(german.of_query("Häuser", {"en", "es"})) == indices("haus", "hause*")
    plain = TermLanguages(None, "english")
    assert set(plain.of_query("the pumps", {"en"})) == indices("the", "pumps")


@pytest.mark.parametrize(
    ("query", "held", "terms"),
    [
        (
            "pumping Häuser",
            {"en", "de"},
            {"pump", "hauser", "pumping", "pumpi*", "haus", "hause*"},
        ),  # nothing tells: both
        ("the pumping of Häuser", {"en", "de"}, {"pump", "hauser"}),
        ("wie sind die Häuser", {"en", "de"}, {"haus", "hause*"}),
        ("die pumps", {"en"}, {"die", "pump"}),
        ("pumps", set(), {"pump"}),
        ("pumps", {"", "en"}, {"pump"}),
    ],
)
def test_a_query_is_analysed_for_what_the_corpus_holds(query: str, held: set[str], terms: set[str]) -> None:
    assert set(AUTO.of_query(query, held)) == indices(*terms)


def test_languages_with_one_stemmer_have_one_analysis() -> None:
    assert AUTO.of_text("hr") is AUTO.of_text("sr")
    assert AUTO.of_text("") is AUTO.of_text("en")
    assert TermLanguages("auto", None).of_text("vi") is not TermLanguages("auto", None).of_text("")


def test_a_word_counts_once_whatever_the_number_of_languages() -> None:
    assert set(AUTO.of_query("Berlin Berlin", {"en", "de", "es"}).values()) == {2}
