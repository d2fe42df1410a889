"""Which texts repeat each other, and which only look alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.repetition import repetition_key

TEXT = "Raw images are kept for 400 days. They are deleted then."


@pytest.mark.parametrize(
    "copy",
    [
        "Raw images are\r\nkept for 400 days.  They are deleted then.",
        "RAW IMAGES are kept for 400 days – they are deleted, then!",
        "Last updated: 3 May 2024\n" + TEXT,
        TEXT + "\n\n*Printed on 2024-05-03 at 12:04.*",
        "Stand: 03.05.2024\n\n" + TEXT,
        "Fecha de actualización: 3 de mayo de 2024\n" + TEXT,
        "Version of March 12, 2024\n" + TEXT,
    ],
)
def test_copies_repeat_each_other(copy: str) -> None:
    assert repetition_key(copy) == repetition_key(TEXT)


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace("400", "30"),
        TEXT.replace("are deleted", "are not deleted"),
        "Deadline: 2024-05-03\n" + TEXT,
        "Version 3 of 2024-05-03\n" + TEXT,
        "They are deleted then. Raw images are kept for 400 days.",
        TEXT + " 2024-05-03",
    ],
)
def test_texts_that_may_contradict_each_other_do_not(other: str) -> None:
    assert repetition_key(other) != repetition_key(TEXT)


def test_texts_without_words_are_compared_by_their_signs() -> None:
    assert repetition_key("---") != repetition_key("***") == repetition_key(" *** \n")
    assert repetition_key("2024-05-03") != repetition_key("2025-05-03")


@given(st.text())
def test_white_space_never_counts(text: str) -> None:
    assert repetition_key("\t" + text.replace(" ", "  ")) == repetition_key(text)
