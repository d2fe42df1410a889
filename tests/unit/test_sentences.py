"""Sentence boundaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    data = text.encode("utf-8")
    return [data[start:end].decode("utf-8") for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith came on Jan. 5, e.g. for work.", "He left."],
        ['He said: "No!"', "Then he left.", "What?", "Nothing."],
        ["See Fig. 3 and Eq. 4 (p. 5).", "The value is 3.14."],
        ["J. R. R. Tolkien wrote it.", "Did he?", "No.", "Yes."],
        ["It costs 5 dollars in the U.S. today.", "At 5 p.m. it closed."],
        ["Visit www.example.org.", "Wait... and see.", "Version 2.0 is out!"],
        ["He works at Acme Inc.", "They pay."],
        ["(This is so.)", "It is **bold.**", "Next."],
        ["It overturned Roe v. Wade.", "He will win."],
        ["Es begann am 27. Januar 1967.", "Im 19. Jahrhundert endete es.", "Es waren 27.", "Danach kam er."],
        ["the fee was $1.5 million.", "it was paid, e.g. in cash.", "see no. 5."],
        ["Größe ist alles.", "Über Nacht.", "Z.B. hier."],
        ["¿Qué?", "¡Nada!", "Bien."],
        ["مرحبا؟", "كيف حالك؟"],
        ["नमस्ते दुनिया।", "ठीक है॥"],
    ],
)
def test_sentences_joined_by_a_space_or_a_soft_line_end(expected: list[str]) -> None:
    assert sentences(" ".join(expected)) == expected
    assert sentences("\r\n".join(expected)) == expected


def test_ideographic_stops_need_no_space() -> None:
    assert sentences("你好。世界！「好。」今天？") == ["你好。", "世界！", "「好。」", "今天？"]


def test_lines() -> None:
    text = "# Title\nSoft\nwrapped line\n- item one\n- item two\n\nNew paragraph\n\n\n"
    text += "1. First. Second\n2) Other\n| a |\n| b |"
    assert sentences(text) == [
        "# Title",
        "Soft\nwrapped line",
        "- item one",
        "- item two",
        "New paragraph",
        "1. First.",
        "Second",
        "2) Other",
        "| a |",
        "| b |",
    ]


MARKS = [
    "a",
    "A",
    "1",
    ".",
    "!",
    "?",
    "…",
    "。",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "- ",
    "# ",
    "| ",
    '"',
    ")",
    "(",
    "Dr",
    "é",
    "😀",
    "\u2028",
    "\u00a0",
    "\u200b",
    "e.g.",
    "no. ",
    "।",
]


@given(st.one_of(st.lists(st.sampled_from(MARKS), max_size=50).map("".join), st.text(max_size=80)))
def test_every_character_is_in_one_sentence(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode("utf-8")
    data = text.encode("utf-8")
    position = 0
    for start, end in sentence_spans(text):
        assert position <= start < end
        assert not data[position:start].decode("utf-8").strip()
        sentence = data[start:end].decode("utf-8")
        assert sentence == sentence.strip()
        position = end
    assert not data[position:].decode("utf-8").strip()
