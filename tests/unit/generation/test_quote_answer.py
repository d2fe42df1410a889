"""Answers as claims with quotes: streamed JSON, quotes found byte for byte or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import GenerationError
from ragstack.generation.base import AnswerSentence
from ragstack.generation.evidence import Evidence
from ragstack.generation.markers import MarkerForm
from ragstack.generation.prompt import neutral
from ragstack.generation.quote_answer import QuoteAnswer
from ragstack.generation.quote_match import find_quote, is_typo
from tests.generation_kit import TEXTS, passages, question, quoted

TEXT = (
    "Raw images are kept for 400 days. They are **never** deleted before – unless the “owner” asks.\r\n\r\nThe dome"
    " must not be opened in strong wind, because the motor overheats quickly. snake_case=a[12] costs 400.5 EUR."
    " 水泵每年检查一次。"
)


def claim(text: str, *quotes: tuple[int, str]) -> dict[str, Any]:
    return {"text": text, "quotes": [{"passage": number, "quote": words} for number, words in quotes]}


def read_json(text: str, step: int = 10_000, ending: Any = "whole") -> tuple[list[AnswerSentence], QuoteAnswer]:
    reader = QuoteAnswer(MarkerForm("qzvk"), Evidence(question(), passages()))
    deltas = [text[at : at + step] for at in range(0, len(text), step)]
    sentences = [sentence for delta in deltas for sentence in reader.feed(delta)]
    return [*sentences, *reader.finish(ending)], reader


ANSWER = json.dumps(
    {
        "claims": [
            claim('Images stay "400" days {or more}.', (1, "Raw images are kept for 400 days.")),
            claim(
                "The dome closes in wind [12].",
                (2, "the dome  closes by itself"),
                (2, 'It opens by hand - "never" alone'),
            ),
            claim(
                "水泵每年检查一次 (yearly).",
                (3, "水泵每年检查一次"),
                (9, "nowhere"),
                (1, "kept for 500 days"),
                (2, ""),
            ),
            claim("Unquoted."),
        ]
    }
)


def test_each_quote_is_the_exact_bytes_of_its_passage() -> None:
    sentences, reader = read_json(ANSWER)
    assert [(s.lead, s.text) for s in sentences] == [
        ("", 'Images stay "400" days {or more}.'),
        (" ", "The dome closes in wind (12)."),
        (" ", "水泵每年检查一次 (yearly)."),
        (" ", "Unquoted."),
    ]
    context = passages()
    assert [quoted(s, context) for s in sentences] == [
        ["Raw images are kept for 400 days."],
        ["The dome closes by itself", "It opens by hand – “never” alone"],
        ["水泵每年检查一次"],
        [],
    ]
    assert (reader.dropped_markers, reader.dropped_quotes, reader.is_over) == (1, 2, True)
    assert [s.support > 0.1 for s in sentences] == [True, True, True, False]


@pytest.mark.parametrize(
    "written", [ANSWER, f"Here it is:\n```json\n{ANSWER}\n```\nDone {{.", json.dumps(json.loads(ANSWER), indent=2)]
)
def test_json_cut_anywhere_gives_the_same_claims(written: str) -> None:
    whole = read_json(written)[0]
    assert len(whole) == 4
    for step in (1, 2, 3, 7):
        assert read_json(written, step)[0] == whole


def test_a_claim_comes_before_the_json_ends() -> None:
    half = ANSWER[: ANSWER.index("The dome closes")]
    assert [s.text[:6] for s in read_json(half, ending="broken")[0]] == ["Images"]
    assert [s.text[:6] for s in read_json(half, ending="cut")[0]] == ["Images"]


def test_no_claims_is_no_answer() -> None:
    sentences, reader = read_json('{"claims": []}')
    assert (sentences, reader.dropped_quotes) == ([], 0)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "I do not know.",
        "{",
        '{"claims": [',
        '{"answer": "400 days"}',
        '{"claims": {"text": "x"}}',
        '{"claims": [{"text": "x",}]}',
        '{"claims": [{"text": 1e999999, "quotes": [}]}',
        '{"claims": [{"text": "x", "quotes": []]}]}',
        "[" * 100_000,
        '{"claims": ' + "[" * 100_000,
        '{"claims": [{"text": "' + "x" * 200_000 + '"}]}',
        "x" * 100_000 + '{"claims": []}',
    ],
    ids=range(13),
)
def test_what_is_no_answer_is_an_error(written: str) -> None:
    with pytest.raises(GenerationError, match="did not answer with claims") as raised:
        read_json(written)
    assert "structured_output" in raised.value.hint


@pytest.mark.parametrize(
    ("claims", "texts", "dropped"),
    [
        ([{"text": "x y"}], ["x y"], (0, 0)),
        ([{"text": "", "quotes": []}, {"quotes": []}, {"text": 5, "quotes": 5}], [], (0, 0)),
        ([{"text": "x", "quotes": [5, {}, {"passage": True}, {"passage": 1, "quote": 5}]}], ["x"], (3, 1)),
        ([{"text": "x", "quotes": [{"passage": 1, "quote": "Raw images"}] * 40}], ["x"], (0, 8)),
        ([{"text": "[qzvk:1] x \x1b[1m[3]\x00 \ud83d", "quotes": []}], ["x [1m(3) \ufffd"], (0, 0)),
        ([{"text": "[none]", "quotes": []}], ["[none]"], (0, 0)),
    ],
)  # fmt: skip
def test_claims_of_the_wrong_shape(claims: list[Any], texts: list[str], dropped: tuple[int, int]) -> None:
    sentences, reader = read_json(json.dumps({"claims": claims}))
    assert [s.text for s in sentences] == texts
    assert (reader.dropped_markers, reader.dropped_quotes) == dropped
    assert all(len(s.quotes) <= 1 for s in sentences)


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("Raw images are kept for 400 days.", ["Raw images are kept for 400 days."]),
        ("raw  images\nare kept for 400 days", ["Raw images are kept for 400 days"]),
        ('are never deleted before - unless the "owner"', ["are **never** deleted before – unless the “owner"]),
        ("asks. The dome must", ["asks.\r\n\r\nThe dome must"]),
        ("The dome must not be openned in strong wind", ["The dome must not be opened in strong wind"]),
        ("The dome must … motor overheats quickly", ["The dome must", "motor overheats quickly"]),
        ("snake_case=a(12)", ["snake_case=a[12]"]),
        ("水泵每年", ["水泵每年"]),
        ("Raw imagse are kept for 400 days", ["Raw images are kept for 400 days"]),
        # another number, a word less, a word more, another word, part of a word or number, in another order
        ("Raw images are kept for 500 days", []),
        ("costs 400", []),
        ("The dome must be opened in strong wind", []),
        ("The dome must not ever be opened in strong wind", []),
        ("The dome must now be opened in strong wind", []),
        ("aw images are kept", []),
        ("motor overheats quickly ... The dome must not", []),
        ("The dome ... quickly", []),
        ("水泵每月检查一次", []),
        ("dome", ["dome"]),
        ("a", []),
        ("", []),
        ("...", []),
        ("*", []),
        ("\ud83d", []),
    ],
)  # fmt: skip
def test_a_quote_is_found_or_refused(quote: str, found: list[str]) -> None:
    assert [TEXT[start:end] for start, end in find_quote(quote, TEXT)] == found


@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)))
def test_what_was_copied_is_found_where_it_stands(one: int, other: int) -> None:
    words = TEXT[min(one, other) : max(one, other)].split()[1:-1]
    found = find_quote(" ".join(words), TEXT)
    if sum(c.isalnum() for c in "".join(words)) >= 2 and words[-1] != "400.":
        assert len(found) == 1
        start, end = found[0]
        assert [w.strip("*–“”.") for w in TEXT[start:end].split()] == [
            w.strip("*–“”.") for w in words if w != "–"
        ] or "–" in words


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("opened", "openned", True),
        ("receive", "recieve", True),
        ("valve", "valves", True),
        ("motor", "rotor", False),
        ("typical", "atypical", False),
        ("available", "unavailable", False),
        ("now", "not", False),
        ("h2so4x", "h2so3x", False),
        ("closed", "closely", False),
    ],
)
def test_typing_mistakes(one: str, other: str, expected: bool) -> None:
    assert is_typo(one, other) is is_typo(other, one) is expected


def test_what_a_prompt_shows_with_another_bracket_is_found() -> None:
    text = "It ends with <|im_end|> here, see [12] and [INST] too."
    shown = neutral(text).replace("[12]", "(12)")
    assert shown != text
    assert find_quote(shown, text) == [(0, len(text))]


def test_a_long_passage_is_searched_quickly() -> None:
    text = " ".join(f"word{number % 97} of the text number {number}" for number in range(6000))
    assert find_quote("word5 of the text number 5825 word6 of teh text", text) == []
    assert len(find_quote(text[100_000:102_000].partition(" ")[2].rpartition(" ")[0], text)) == 1
    assert find_quote(TEXTS[0], TEXTS[0]) == [(0, len(TEXTS[0]))]
