from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.retrieval.phrases import contain_all, quoted_phrases


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ('what does "late interaction" mean?', ["late interaction"]),
        ('"a b" and "c d", and "a b"', ["a b", "c d"]),
        ("wer schrieb „Die Räuber“?", ["Die Räuber"]),
        ("qui a écrit « Les Misérables » ?", ["Les Misérables"]),
        ("who wrote \u201cUlysses\u201d?", ["Ulysses"]),
        ("「吾輩は猫である」の作者", ["吾輩は猫である"]),
        ('a 5" disk and a 3" one', []),
        ('an open "quote', []),
        ('nothing "" or " " or "?!"', []),
        ("the patient's heart and 'single' marks", []),
    ],
)
def test_what_is_quoted(query: str, phrases: list[str]) -> None:
    assert [phrase.text for phrase in quoted_phrases(query)] == phrases


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("exact words", "Here are the EXACT\n  words.", True),
        ("exact words", "exact, words", True),
        ("exact words", "exact other words", False),
        ("exact word", "exact words", False),
        ("cat", "concatenate", False),
        ("E1234", "error e1234!", True),
        ("the", "the", True),
        ("ﬁne", "fine", True),
        ("Straße", "STRASSE", True),
        ("cafe", "café", False),
        ("猫である", "吾輩は猫である。", True),
        ("हिन्दी", "हिन्दी भाषा", True),
        ("हिन्द", "हिन्दी", False),
        ("C++", "C++ and C#", True),
        ("snake_case", "snake_case", True),
    ],
)
def test_what_holds_a_phrase(phrase: str, text: str, found: bool) -> None:
    assert contain_all(quoted_phrases(f'"{phrase}"'), text) == found


@given(st.text(max_size=30), st.text(alphabet="ab \n.-é猫\"'", max_size=30))
def test_a_text_holds_its_own_words(before: str, text: str) -> None:
    phrases = quoted_phrases(f'"{text}"')
    assert all(contain_all([phrase], f"{before} {phrase.text} {before}") for phrase in phrases)
