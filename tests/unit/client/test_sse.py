"""Server-sent events come out the same, however their bytes are cut."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from ragstack.client.sse import EventParser, ServerEvent

END = st.sampled_from(["\n", "\r", "\r\n"])
NAMES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)


def parsed(chunks: list[bytes]) -> list[ServerEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=5), END, st.lists(st.integers(0, 10_000), max_size=12))
def test_events_survive_any_cut_and_any_line_end(events: list[tuple[str, str]], end: str, places: list[int]) -> None:
    data = "".join(
        f"event: {name}{end}data: {json.dumps(text)}{end}{end}: a comment{end}{end}" for name, text in events
    )
    expected = [ServerEvent(name or "message", json.dumps(text)) for name, text in events]
    assert parsed(cut(data.encode(), places)) == expected


def test_a_cut_inside_every_character_and_line_end_changes_nothing() -> None:
    data = '\ufeffevent: sentence\r\ndata: {"delta": "für 水"}\r\ndata:second\r\n\r\nid: 7\r\ndata\r\n\r\n'.encode()
    expected = [ServerEvent("sentence", '{"delta": "für 水"}\nsecond'), ServerEvent("message", "")]
    assert parsed([data]) == expected
    for place in range(len(data)):
        assert parsed([data[:place], data[place:]]) == expected
    assert parsed([bytes([byte]) for byte in data]) == expected


def test_what_no_empty_line_ended_is_no_event() -> None:
    assert parsed([b"event: done\ndata: {}\n"]) == []
    assert parsed([b"event: done\n\ndata: 1\n\n"]) == [ServerEvent("message", "1")], "a name alone is dropped"
