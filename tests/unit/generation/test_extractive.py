"""Answers without a language model: which sentences, in what order and form."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ragstack.generation.base import AnswerEnd, AnswerSentence, ContextPassage
from ragstack.generation.extractive import ExtractiveGenerator
from tests.generation_kit import passages, question, quoted


def answer(asked: str, context: Sequence[ContextPassage], most: int = 5) -> list[AnswerSentence]:
    events = list(ExtractiveGenerator(max_sentences=most).stream(question(asked), context))
    assert isinstance(events[-1], AnswerEnd)
    sentences = [event for event in events if isinstance(event, AnswerSentence)]
    for sentence in sentences:
        assert sentence.verbatim and [" ".join(text.split()) for text in quoted(sentence, context)] == [
            " ".join(sentence.text.split())
        ]
    return sentences


def texts(asked: str, *of_passages: str, most: int = 5) -> list[str]:
    return [sentence.text for sentence in answer(asked, passages(of_passages), most)]


def test_both_parts_of_a_question_are_answered() -> None:
    found = texts(
        "murders decrease, thefts change little",
        "Last year murders did decrease. The weather was fine in all of the country. Thefts change little.",
    )
    assert found == ["Last year murders did decrease.", "Thefts change little."]


def test_a_sentence_that_leans_on_the_one_before_it_brings_it_along() -> None:
    text = "The brass seal of the pump was replaced. It was oiled in May. Nobody knew anything about lamps."
    assert texts("brass seal oiled in May", text)[:2] == [
        "The brass seal of the pump was replaced.",
        "It was oiled in May.",
    ]


def test_a_sentence_is_not_said_twice() -> None:
    found = texts(
        "How long are raw images kept?",
        "Raw images are kept for 400 days on the archive.",
        "Raw images are kept for 400 days on that archive.",
        "RAW IMAGES ARE KEPT FOR 400 DAYS, on the archive!",
    )
    assert len(found) == 1


def test_a_table_and_code_are_shown_as_they_stand() -> None:
    table = "| plan | requests |\n|---|---|\n| team | 6000 |"
    code = "```\nretry(team)\n```"
    for block, asked in ((table, "requests plan team"), (code, "retry team")):
        text = f"Prices may change at any time.\n\n{block}\n\nNo more is known."
        (sentence,) = answer(asked, passages([text]), 1)
        assert sentence.text == block
    both = answer("retry requests plan team", passages([f"{table}\n\n{code}"]))
    assert [each.lead for each in both] == ["", "\n\n"]


def test_the_order_is_that_of_the_passages() -> None:
    context = passages(["Nobody came. The lamp is lit at dusk.", "The pump is primed with oil at noon."])
    found = answer("pump primed with oil at noon; lamp lit at dusk", context)
    places = [(sentence.quotes[0].marker, sentence.quotes[0].byte_start) for sentence in found]
    assert places == sorted(places) and len(places) > 1


def test_nothing_to_quote_gives_no_answer() -> None:
    assert texts("What?", "## Heading", "***") == []


@given(st.lists(st.text(max_size=60), min_size=1, max_size=3), st.integers(1, 6))
def test_any_passages_give_quotes_of_them(of_passages: list[str], most: int) -> None:
    assert len(answer("Is this quoted?", passages([text or "-" for text in of_passages]), most)) <= most
