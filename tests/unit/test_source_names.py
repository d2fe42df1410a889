"""File names as text: reversible and unique, whatever bytes a name has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.source_names import name_of_path, path_of_name, path_of_uri

NAMES = st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b and b"/" not in b and b not in (b".", b".."))


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
@given(NAMES)
def test_round_trip(name: bytes) -> None:
    path = Path(os.fsdecode(name))
    text = name_of_path(path)
    text.encode("utf-8")
    assert path_of_name(text) == path


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
@given(NAMES, NAMES)
def test_two_names_never_share_a_form(first: bytes, second: bytes) -> None:
    if first != second:
        assert name_of_path(os.fsdecode(first)) != name_of_path(os.fsdecode(second))


def test_common_names_are_themselves() -> None:
    for name in ("notes.md", "100% sure.txt", "Überblick.txt", "日本.md", "a#b.txt"):
        assert name_of_path(name) == name
    assert name_of_path("a%41.txt") == "a%2541.txt"


def test_uri_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a b#c%20.txt"
    assert path_of_uri(path.as_uri()) == path
    assert path_of_uri("s3://bucket/key") is None
