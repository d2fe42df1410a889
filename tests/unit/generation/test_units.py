"""What of a passage can be quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.citations.answer_text import with_markers
from ragstack.generation.units import quotable_units

TABLE = "| Plan | Requests |\n|---|---|\n| Free | 600 |\n| Team | 6000 |"
CODE = "```python\ndef retry(n):\n    return backoff(n)\n```"


def units(text: str) -> list[tuple[str, str]]:
    data = text.encode("utf-8")
    return [(unit.kind, data[unit.byte_start : unit.byte_end].decode("utf-8")) for unit in quotable_units(text)]


def test_prose_tables_and_code_each_keep_their_form() -> None:
    said = "# Limits\n\nThe API allows 600 requests. More needs a key."
    text = "\n\n".join([said, TABLE, "Try again:", CODE, "That is all of it."])
    assert units(text) == [
        ("sentence", "The API allows 600 requests."),
        ("sentence", "More needs a key."),
        ("table", TABLE),
        ("sentence", "Try again:"),
        ("code", CODE),
        ("sentence", "That is all of it."),
    ]


@pytest.mark.parametrize("scrap", ["(Laughter.)", "[1] [2]", "***", "## Heading", "Yes.", "(a) (b)", "1.", "> "])
def test_scraps_are_no_units(scrap: str) -> None:
    assert units(f"A first whole sentence.\n\n{scrap}\n\nA last whole sentence.") == [
        ("sentence", "A first whole sentence."),
        ("sentence", "A last whole sentence."),
    ]


def test_a_line_of_its_own_that_ends_like_no_sentence_is_a_title() -> None:
    assert units("Cells that kill tumours\n\nWe show that they do.\n- oil the pump\n- light the lamp") == [
        ("title", "Cells that kill tumours"),
        ("sentence", "We show that they do."),
        ("sentence", "- oil the pump"),
        ("sentence", "- light the lamp"),
    ]


def test_a_large_table_is_quoted_by_rows_and_large_code_by_parts() -> None:
    rows = [f"| row {number} | {'x' * 40} |" for number in range(40)]
    assert units("\n".join(["| name | value |", "|---|---|", *rows])) == [
        ("table", row) for row in ["| name | value |", *rows]
    ]
    parts = [f"def f{number}():\n    return {'y' * 90}" for number in range(20)]
    assert units("\n\n".join(parts)) == [("code", part) for part in parts]


def test_an_indented_part_of_a_program_keeps_its_indentation() -> None:
    text = "    if pump.is_dry():\n        pump.prime()\n    return pump"
    assert units("\n" + text + "\n") == [("code", text)]


def test_a_documented_function_is_code() -> None:
    text = (
        'def merit(field: Field) -> float:\n    """How much it counts.\n\n    Larger is better.\n    """\n    return 1'
    )
    assert units(text) == [("code", text)]
    prose = "From the import of goods we learn much.\nClass matters, too.\nThe function of a pump is to pump."
    assert {kind for kind, _ in units(prose)} == {"sentence"}


def test_a_fence_that_is_cut_off_is_code_to_the_end() -> None:
    assert units("Here it comes.\n```\nx = 1") == [("sentence", "Here it comes."), ("code", "```\nx = 1")]


def test_a_long_text_without_full_stops_is_cut_between_words() -> None:
    words = " ".join(f"word{number}" for number in range(300))
    found = units(words)
    assert len(found) > 2 and all(len(text) <= 800 for _, text in found)
    assert " ".join(text for _, text in found) == words
    wide = units("永" * 900)
    assert "".join(text for _, text in wide) == "永" * 900 and len(wide) > 1


@given(st.text(alphabet=st.sampled_from("ab A.!|`~#\n\r-(水é👩")))
def test_units_are_apart_in_order_and_cut_at_characters(text: str) -> None:
    data = text.encode("utf-8")
    position = 0
    for unit in quotable_units(text):
        assert position <= unit.byte_start < unit.byte_end <= len(data)
        shown = data[unit.byte_start : unit.byte_end].decode("utf-8")
        assert shown.rstrip() == shown
        position = unit.byte_end


def test_markers_stand_apart_from_tables_and_code() -> None:
    assert with_markers("A fact.", [1, 2, 1]) == "A fact. [1] [2]"
    assert with_markers(TABLE, [1]) == TABLE + "\n\n[1]"
    assert with_markers(CODE, [2]) == CODE + "\n\n[2]"
    assert with_markers("The sign | is a bar |", [1]) == "The sign | is a bar | [1]"
    assert with_markers("A fact.", []) == "A fact."
