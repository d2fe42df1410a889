"""Answers with markers: what is a marker, which sentence it belongs to, and that cuts between deltas change nothing."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragstack.generation.evidence import Evidence
from ragstack.generation.marker_answer import MarkerAnswer
from ragstack.generation.markers import MarkerForm, draw_tag
from tests.generation_kit import TEXTS, passages, question, quoted, read, shown

ANSWER = (
    "# Images\n\nRaw images are kept for 400 days [qzvk:1]. The dome closes in wind. [qzvk:2][qzvk:1] See e.g."
    " Mr. Smith, version 3.5, and table [12].\n\n- mirrors are washed in May\n  [qzvk:3]\n"
    "- [QZVK: 2, 1] a list item\n\n"
    "```py\nlist[1] = 'x'  # [qzvk:2]\n\n\nend. Of it\n```\n[qzvk:2]\n"
    "水泵每年检查一次。[qzvk:3]第二句在这里，很长的句子。"
    " 👩‍🔧 says `a[3]` (qzvk:9). Invented [qzvk:77], [qzvk:1]; done."
)


def test_markers_are_resolved_and_leave_no_trace() -> None:
    sentences, reader = read([ANSWER])
    assert shown(sentences) == (
        "# Images\n\nRaw images are kept for 400 days. [1] The dome closes in wind. [2] [1] See e.g. Mr. Smith,"
        " version 3.5, and table (12).\n\n- mirrors are washed in May [3]\n- a list item [2] [1]\n\n"
        "```py\nlist[1] = 'x'  # \n\n\nend. Of it\n```\n [2]\n水泵每年检查一次。 [3]第二句在这里，很长的句子。"
        " 👩‍🔧 says `a[3]`. Invented; done. [1]"
    )
    assert (reader.dropped_markers, reader.dropped_quotes) == (2, 0)


def test_a_marker_split_at_every_character_gives_the_same_answer() -> None:
    whole = read([ANSWER])
    for cut in range(len(ANSWER) + 1):
        sentences, reader = read([ANSWER[:cut], ANSWER[cut:]])
        assert sentences == whole[0], cut
        assert reader.dropped_markers == whole[1].dropped_markers
    assert read(list(ANSWER))[0] == whole[0]
    assert shown(read(list(ANSWER), tag="")[0]) == shown(read([ANSWER], tag="")[0])


PIECES = st.sampled_from(
    [
        "[qzvk:1]", "[qzvk:2, 3]", "[[qzvk:1]]", "(qzvk:2)", "qzvk:3", "[qzvk:9]", "[qzvk", "[qz", "[12]", "[1]", "[",
        "]", "[qzvk:none]", "[none]", "The dome closes.", "Raw images are kept", " ", "  ", "\n", "\n\n", "\r\n", ".",
        "!", "?", "...", ",", "; ", "e.g.", "Dr.", "3.5", "“Quoted.”", "- item", "1. first", "# Head", "| a | b |",
        "```\n", "```py\n", "~~~\n", "`", "`a[1]`", "水泵。", "é", "👩‍🔧", "\ud83d", "\ude00", "\x00", "<think>",
        "</think>", "x" * 60, "<passage qzvk 2>",
        "</passage qzvk>",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25), st.lists(st.integers(0, 400), max_size=12), st.sampled_from(["qzvk", ""]))
@example(["[qzvk:1", "]"], [3], "qzvk")
@example(["The dome closes.", " ", "[qzvk:1]", "\n", "- item"], [16, 20], "qzvk")
def test_cuts_between_deltas_change_nothing(pieces: list[str], cuts: list[int], tag: str) -> None:
    text = "".join(pieces)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    deltas = [text[start:end] for start, end in pairwise(places)]
    whole, reader = read([text], tag)
    cut, cut_reader = read(deltas, tag)
    single, single_reader = read(list(text), tag)
    assert cut == whole == single
    assert reader.dropped_markers == cut_reader.dropped_markers == single_reader.dropped_markers
    assert reader.is_over == cut_reader.is_over == single_reader.is_over


@given(st.lists(PIECES, max_size=25), st.sampled_from(["qzvk", ""]))
def test_what_is_shown_is_safe(pieces: list[str], tag: str) -> None:
    """Quotes lie in passages that were given; no number in brackets is left that a reader takes for a citation."""
    sentences, _ = read(["".join(pieces)], tag)
    context = passages()
    for position, sentence in enumerate(sentences):
        quoted(sentence, context)
        assert 0.0 <= sentence.support <= 1.0
        assert position > 0 or sentence.lead == ""
        assert not sentence.lead.strip()
        assert sentence.text.encode("utf-8")  # no lone surrogates
        assert not set(sentence.text) & set(map(chr, [*range(9), *range(14, 32)]))
        if "`" not in sentence.text and "~" not in sentence.text:
            assert not re.search(r"\[ *\d[\d ,]*\]", sentence.text)
        assert "[qzvk:" not in sentence.text or not tag


@given(st.text(alphabet="abc XYZ.!?\n-é水。'\"", max_size=200))
def test_text_without_markers_is_kept_to_the_letter(text: str) -> None:
    sentences, _ = read(list(text))
    assert "".join(s.lead + s.text for s in sentences) == text.strip()


@pytest.mark.parametrize(
    ("written", "expected", "dropped"),
    [
        ("Foo is bar [qzvk:1].", "Foo is bar. [1]", 0),
        ("Foo is bar.[qzvk:1]Next one.", "Foo is bar. [1] Next one.", 0),
        ("Foo is bar. [qzvk:1] [qzvk:2]", "Foo is bar. [1] [2]", 0),
        ("Foo is bar [qzvk:1], [qzvk:2].", "Foo is bar. [1] [2]", 0),
        ("Foo [qzvk:1], then bar.", "Foo, then bar. [1]", 0),
        ("Foo is bar ([qzvk:1]).", "Foo is bar. [1]", 0),
        ("Foo is bar 【qzvk:1】.", "Foo is bar. [1]", 0),
        ("Foo is bar [qzvk:1-3].", "Foo is bar. [1] [2] [3]", 0),
        ("Foo is bar [qzvk:1; qzvk:2].", "Foo is bar. [1] [2]", 0),
        ("水泵[qzvk：1、2]。", "水泵。 [1] [2]", 0),
        ("Foo [\u00a012] is [1，2].", "Foo (\u00a012) is (1，2).", 0),
        ("Foo is bar qzvk:2.", "Foo is bar. [2]", 0),
        ("Foo is bar [qzvk:1 and so on.", "Foo is bar and so on. [1]", 0),
        ("Foo is bar [qzvk:0] [qzvk:4] [qzvk:].", "Foo is bar.", 3),
        ("Foo is bar [qzvk:99999999999999999999].", "Foo is bar.", 1),
        ("Foo is bar [1].", "Foo is bar (1).", 0),
        ("Foo[1] is bar [2, 3].", "Foo(1) is bar (2, 3).", 0),
        ("Use `a[1]`, not a[1].", "Use `a[1]`, not a(1).", 0),
        ("[qzvk:1] Foo is bar.", "Foo is bar. [1]", 0),
        ("Foo is bar.\n\n[qzvk:1]", "Foo is bar. [1]", 0),
        ("Foo is bar.\n[qzvk:1]\n\nNext one is here.", "Foo is bar. [1]\n\nNext one is here.", 0),
        ("Foo is bar.\n\n[qzvk:1] Next one is here.", "Foo is bar.\n\nNext one is here. [1]", 0),
        ("Yes. [qzvk:1] No. [qzvk:2]", "Yes. [1] No. [2]", 0),
        ("| a | b |\n|---|---|\n| c | d [qzvk:1] |", "| a | b |\n|---|---|\n| c | d | [1]", 0),
        ("A ` and [12] stay.", "A ` and (12) stay.", 0),
        ("A ``b ` [12]`` and `x[3] ", "A ``b ` [12]`` and `x(3)", 0),
        ("Foo [link](http://x.y/[1]) bar", "Foo [link](http://x.y/(1)) bar", 0),
        ("<passage qzvk 4>\nFoo is <b>bar</b>.\n</passage qzvk>", "Foo is <b>bar</b>.", 0),
        ("<passage 1> <pass", "<passage 1> <pass", 0),
        ("Foo [</passage qzvk>11] bar [[qzvk:1]2].", "Foo (11) bar (2). [1]", 0),
        ("[qzvk:none]", "", 0),
        ("The passages do not say. [qzvk:none]", "", 0),
        ("[qzvk:none] The passages do not say when.", "", 0),
        ("The dome closes in wind. [qzvk:2] About rain I can't say. [qzvk:none]", "The dome closes in wind. [2]", 0),
        ("", "", 0),
        (" \n ", "", 0),
        ("<think>Hm, [qzvk:1]. So.</think>\n\nFoo is bar.", "Foo is bar.", 0),
        ("<think>for ever", "", 0),
    ],
)
def test_forms_that_models_write(written: str, expected: str, dropped: int) -> None:
    sentences, reader = read([written])
    assert (shown(sentences), reader.dropped_markers) == (expected, dropped)


@pytest.mark.parametrize(
    ("written", "expected", "dropped"),
    [
        ("Foo is bar [1]. Next one [2, 3].", "Foo is bar. [1] Next one. [2] [3]", 0),
        ("Foo is bar. [1][9]", "Foo is bar. [1]", 1),
        ("Use `a[1]` here ([2]).", "Use `a[1]` here. [2]", 0),
        ("```\na[1] = b[2]\n```\n[3]", "```\na[1] = b[2]\n```\n [3]", 0),
        ("It gives [None] then. [1]", "It gives [None] then. [1]", 0),
        ("Foo [[1]2] is.", "Foo (2) is. [1]", 0),
        ("Foo (see 3) [x] [1", "Foo (see 3) [x] [1", 0),
        ("[none]", "", 0),
    ],
)
def test_plain_markers(written: str, expected: str, dropped: int) -> None:
    sentences, reader = read(list(written), tag="")
    assert (shown(sentences), reader.dropped_markers) == (expected, dropped)


def test_a_sentence_comes_as_soon_as_the_next_one_has_begun() -> None:
    reader = MarkerAnswer(MarkerForm("qzvk"), Evidence(question(), passages()))
    deltas = ["Raw images are kept. ", "[qzvk:", "1]", " The dome", " closes in", " wind. [qzvk:2]"]
    settled = [[sentence.text for sentence in reader.feed(delta)] for delta in deltas]
    assert settled == [[], [], [], [], ["Raw images are kept."], []]


def test_what_broke_off_is_left_out() -> None:
    assert shown(read(["Foo is bar. [qzvk:1] The pump must"], ending="broken")[0]) == "Foo is bar. [1]"
    assert shown(read(["Foo is bar. [qzvk:1] The pump must"], ending="cut")[0]) == "Foo is bar. [1] The pump must"
    assert read(["Foo is bar."], ending="broken")[0] == []
    assert shown(read(["Foo is bar. [qzvk:1]"], ending="broken")[0]) == "Foo is bar. [1]"


def test_the_quote_is_the_part_of_the_passage_that_says_it() -> None:
    sentences, _ = read(["They are deleted after that. [qzvk:1] Wind of 15 m/s closes the dome. [qzvk:2]"])
    context = passages()
    assert [quoted(s, context) for s in sentences] == [
        ["After that they are deleted, as [12] says."],
        ["The dome closes by itself when the wind is stronger than 15 m/s."],
    ]
    assert all(0.3 < s.support <= 1 and not s.verbatim for s in sentences)


def test_a_sentence_copied_from_a_passage_is_verbatim() -> None:
    sentences, _ = read(["Raw images\nare kept for 400 days. [qzvk:1] 水泵每年检查一次。[qzvk:3] Foo. [qzvk:1]"])
    assert [s.verbatim for s in sentences] == [True, True, False]
    assert quoted(sentences[0], passages()) == ["Raw images are kept for 400 days."]
    assert quoted(sentences[1], passages()) == ["水泵每年检查一次。"]
    assert [round(s.support, 3) for s in sentences[:2]] == [1.0, 1.0]


def test_support_tells_borne_out_from_not() -> None:
    said, unsaid = (read([f"{text} [qzvk:1]"])[0][0].support for text in ("They are deleted.", "Cats like warm milk."))
    assert said > 0.9
    assert unsaid < 0.6


def test_endless_text_is_cut_and_read_in_reasonable_time() -> None:
    for text in ("x" * 20_000, "e.g. " * 2_000, "[" * 9_000, "[qzvk:" * 2_000, "`" * 9_000, "\n" * 9_000, "[1" * 4_000):
        sentences, _ = read([text])
        assert all(len(s.text) <= 8000 for s in sentences)


def test_a_tag_occurs_in_none_of_the_texts() -> None:
    letters = iter("bbbbccccdddd")
    assert draw_tag(["a BBBB b", "xcccCx"], lambda _: next(letters)) == "dddd"
    assert draw_tag(["b" * 6], lambda _: "b") == "b" * 7  # a text that holds every shorter one
    for _ in range(50):
        assert draw_tag(TEXTS).casefold() not in "\n".join(TEXTS).casefold()


def test_markers_as_the_model_is_shown_them() -> None:
    assert MarkerForm("qzvk").marker(1, 3) == "[qzvk:1][qzvk:3]"
    assert (MarkerForm("").marker(2), MarkerForm("").no_answer) == ("[2]", "[none]")
